"""vlm_node: a question in, an answer out, over real DDS; and the command line beside it."""

from collections.abc import Iterator
from types import SimpleNamespace

import cv2
import layouts
import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from sensor_msgs.msg import Image
from std_msgs.msg import String

from moxin_vla.cli.main import main
from moxin_vla.nodes.vlm_node import VlmNode
from moxin_vla.policy.moxin.generation import Sampling
from moxin_vla.policy.moxin.vlm_loading import load_vlm
from moxin_vla.ros.bringup import Bringup
from moxin_vla.ros.conversions import image_message
from moxin_vla.ros.diagnostics import ERROR
from moxin_vla.ros.qos import COMMAND, LATCHED, RECORDING
from moxin_vla.system import SystemConfig

IMAGE = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
QUESTION = "What do you see?"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return layouts.write_vlm(tmp_path_factory.mktemp("vlm") / "tiny")


@pytest.fixture
def asked(listener, embodiment, embodiment_path, model) -> Iterator[SimpleNamespace]:
    """An active vlm_node, connected; `.ask(text)` publishes a question."""
    arguments = [f"embodiment:={embodiment_path}", f"vlm:={model}", "max_new_tokens:=12"]
    rclpy.init(args=["--ros-args", *(part for a in arguments for part in ("-p", a))])
    node = VlmNode()
    node.trigger_configure()
    node.trigger_activate()
    answers = listener.hear(String, "vlm_node/answer", COMMAND)
    pieces = listener.hear(String, "vlm_node/answer_piece", RECORDING)
    statuses = listener.hear(DiagnosticStatus, "vlm_node/status", LATCHED)
    questions = listener.node.create_publisher(String, "vlm_node/question", COMMAND)
    images = listener.node.create_publisher(Image, embodiment.cameras[0].topic, COMMAND)

    def until(condition, what):
        def spun():
            rclpy.spin_once(node, timeout_sec=0.01)
            return condition()

        return listener.until(spun, what)

    until(lambda: questions.get_subscription_count() and images.get_subscription_count(), "a link")
    topics = ("vlm_node/answer", "vlm_node/answer_piece")
    until(lambda: all(node.count_subscribers(topic) for topic in topics), "an ear")
    yield SimpleNamespace(
        node=node,
        answers=answers,
        pieces=pieces,
        statuses=statuses,
        until=until,
        ask=lambda text: questions.publish(String(data=text)),
        show=lambda: images.publish(image_message(1_000_000_000, "front", IMAGE)),
    )
    node.trigger_shutdown()
    node.destroy_node()
    rclpy.shutdown()


def test_a_question_is_answered_as_on_the_command_line(asked, model, tmp_path, capsys):
    asked.show()
    asked.until(lambda: asked.node._image is not None, "an image")
    asked.ask(QUESTION)
    asked.until(lambda: asked.answers, "an answer")
    expected = "".join(load_vlm(model).ask(IMAGE, QUESTION, Sampling(max_new_tokens=12)))
    assert asked.answers[0].data == expected
    asked.until(lambda: "".join(p.data for p in asked.pieces) == expected, "every piece")
    cv2.imwrite(str(tmp_path / "image.png"), IMAGE[..., ::-1])
    command = ["ask", str(tmp_path / "image.png"), QUESTION, "--checkpoint", str(model)]
    assert main([*command, "--max-new-tokens", "12"]) == 0
    assert capsys.readouterr().out == expected + "\n"


def test_without_an_image_the_answer_says_why(asked):
    asked.ask(QUESTION)
    asked.until(lambda: asked.answers, "an answer")
    assert asked.answers[0].data == "(no answer: no image from camera 'front' yet)"
    assert asked.until(lambda: [s for s in asked.statuses if s.level == ERROR], "an error")


def test_an_empty_question_is_answered_with_the_reason(asked):
    asked.show()
    asked.until(lambda: asked.node._image is not None, "an image")
    asked.ask("  ")
    asked.until(lambda: asked.answers, "an answer")
    assert "The question is empty." in asked.answers[0].data


def test_the_system_starts_it_beside_the_policy(embodiment_path, model, domain_id):
    config = SystemConfig(embodiment_path, "scripted:hold", domain_id=domain_id, vlm=str(model))
    with Bringup(config) as system:
        assert system.ended() == ""


def test_an_image_that_is_none_is_named(model, tmp_path, capsys):
    (tmp_path / "x.png").write_text("no pixels")
    assert main(["ask", str(tmp_path / "x.png"), "what?", "--checkpoint", str(model)]) == 2
    expected = f"moxin-vla: '{tmp_path / 'x.png'}' is missing or not an image.\n"
    assert capsys.readouterr().err == expected
