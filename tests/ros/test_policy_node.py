"""policy_node in this process, fed by hand: which moments it plans from, and what it survives."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from moxin_vla.core.embodiment import Embodiment
from moxin_vla.core.errors import PolicyError
from moxin_vla.core.messages import time_to_ns
from moxin_vla.core.types import ActionChunk, Observation
from moxin_vla.nodes import policy_node
from moxin_vla.policy.scripted import ScriptedPolicy
from moxin_vla.ros.conversions import image_message, joint_state_message
from moxin_vla.ros.diagnostics import ERROR, OK, status_values
from moxin_vla.ros.qos import COMMAND, LATCHED, RECORDING

T_NS = 5_000_000_000


class Fragile(ScriptedPolicy):
    """Fails at its first observation; remembers what it was shown."""

    def __init__(self, embodiment: Embodiment) -> None:
        super().__init__("hold", embodiment)
        self.seen: list[Observation] = []

    def infer(self, observation: Observation) -> ActionChunk:
        self.seen.append(observation)
        if len(self.seen) == 1:
            raise PolicyError("the weights are upside down")
        return super().infer(observation)


@pytest.fixture
def fed(
    listener, embodiment: Embodiment, embodiment_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SimpleNamespace]:
    """An active policy_node, connected; `.send(what, time_ns)` publishes to it."""
    policy = Fragile(embodiment)
    monkeypatch.setattr(policy_node, "load_policy", lambda *_: policy)
    rclpy.init(args=["--ros-args", "-p", f"embodiment:={embodiment_path}", "-p", "lossless:=true"])
    node = policy_node.PolicyNode()
    node.trigger_configure()
    node.trigger_activate()
    chunks = listener.hear(JointTrajectory, "policy_node/action_chunk", RECORDING)
    statuses = listener.hear(DiagnosticStatus, "policy_node/status", LATCHED)
    cameras = {
        c.name: listener.node.create_publisher(Image, c.topic, COMMAND) for c in embodiment.cameras
    }
    joints = listener.node.create_publisher(JointState, embodiment.joint_states_topic, COMMAND)
    instruction = listener.node.create_publisher(String, "policy_node/instruction", COMMAND)

    def until(condition: Callable, what: str) -> None:
        def step() -> bool:
            rclpy.spin_once(node, timeout_sec=0.01)
            return condition()

        listener.until(step, what)

    def send(what: str, time_ns: int) -> None:
        if what == "joints":
            pose = np.full(embodiment.dof, time_ns / 1e12)
            joints.publish(joint_state_message(time_ns, embodiment.joint_names, pose))
        else:
            pixels = np.zeros((96, 96, 3), dtype=np.uint8)
            cameras[what].publish(image_message(time_ns, what, pixels))

    publishers = (*cameras.values(), joints, instruction)
    until(lambda: all(p.get_subscription_count() for p in publishers), "the node is connected")
    until(lambda: statuses, "its status is heard")
    instruction.publish(String(data="pick up the red cube"))
    until(lambda: status_values(statuses[-1])["instruction"] != "", "it is told what to do")
    yield SimpleNamespace(
        send=send, until=until, policy=policy, chunks=chunks, statuses=statuses, node=node
    )
    node.trigger_shutdown()
    node.destroy_node()
    rclpy.shutdown()


def test_images_wait_for_the_joint_state_of_their_moment(fed: SimpleNamespace) -> None:
    fed.send("joints", T_NS - 50_000_000)
    fed.send("front", T_NS)
    fed.send("wrist", T_NS)
    waiting = "no joint state as new as the newest images yet"
    fed.until(lambda: fed.node.describe().message == waiting, "it waits")
    assert fed.policy.seen == []

    fed.send("joints", T_NS)
    fed.until(lambda: fed.policy.seen, "it plans")
    assert fed.policy.seen[0].time_ns == T_NS
    assert np.all(fed.policy.seen[0].proprio == T_NS / 1e12)


def test_a_policy_that_raises_is_counted_and_reported_and_asked_again(
    fed: SimpleNamespace,
) -> None:
    def show(time_ns: int) -> None:
        for what in ("joints", "front", "wrist"):
            fed.send(what, time_ns)

    show(T_NS)
    fed.until(lambda: fed.statuses[-1].level == ERROR, "the failure is reported")
    assert fed.statuses[-1].message == (
        "the policy failed: PolicyError: the weights are upside down"
    )
    assert status_values(fed.statuses[-1])["errors"] == "1"
    assert fed.chunks == []

    later_ns = T_NS + 8 * 50_000_000
    show(later_ns)
    fed.until(lambda: fed.chunks, "the next plan")
    assert time_to_ns(fed.chunks[0].header.stamp) == later_ns
    fed.until(lambda: fed.statuses[-1].level == OK, "the trouble is over")
    assert status_values(fed.statuses[-1])["errors"] == "1"


def test_between_plans_nothing_is_inferred(fed: SimpleNamespace) -> None:
    def taken_in(time_ns: int) -> bool:
        newest = fed.node._assembler.newest("pick up the red cube")
        complete = newest is not None and newest.time_ns == time_ns == fed.node._joints_ns
        return complete and not fed.node._worker.busy

    for tick in range(20):
        now_ns = T_NS + tick * 50_000_000
        for what in ("front", "wrist", "joints"):
            fed.send(what, now_ns)
        fed.until(lambda now_ns=now_ns: taken_in(now_ns), "the tick is taken in")
    fed.until(lambda: len(fed.chunks) == 2, "two plans")
    assert [o.time_ns for o in fed.policy.seen] == [T_NS + k * 8 * 50_000_000 for k in range(3)]
