"""Managed nodes in this process, driven by their transitions."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import rclpy
import yaml
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState
from std_msgs.msg import Empty
from trajectory_msgs.msg import JointTrajectory

from moxin_vla.core.embodiment import Embodiment
from moxin_vla.nodes.control_node import ControlNode
from moxin_vla.nodes.policy_node import PolicyNode
from moxin_vla.ros.conversions import joint_state_message
from moxin_vla.ros.parameters import ParameterError
from moxin_vla.ros.qos import LATCHED, RECORDING

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


@pytest.fixture
def make_node(listener, embodiment_path: Path) -> Iterator[Callable]:
    """Return a function that makes a node with parameters, spun together with the listener."""
    rclpy.init()
    made = []

    def make(kind: type, **parameters: object):
        arguments = ["--ros-args"]
        for name, value in ({"embodiment": str(embodiment_path)} | parameters).items():
            arguments += ["-p", f"{name}:={value}"]
        rclpy.shutdown()
        rclpy.init(args=arguments)
        node = kind()
        made.append(node)
        return node

    yield make
    for node in made:
        node.trigger_shutdown()
        node.destroy_node()
    rclpy.shutdown()


def both(listener, node, condition: Callable, what: str) -> None:
    """Handle the messages of node and listener until a condition holds."""

    def step() -> bool:
        rclpy.spin_once(node, timeout_sec=0.01)
        return condition()

    listener.until(step, what)


def test_an_inactive_node_publishes_nothing(listener, make_node, embodiment: Embodiment) -> None:
    node = make_node(ControlNode, lockstep="true")
    commands = listener.hear(JointTrajectory, "control_node/command", RECORDING)
    statuses = listener.hear(DiagnosticStatus, "control_node/status", LATCHED)
    sentinel = listener.hear(Empty, "sentinel", RECORDING)
    assert node.trigger_configure() is SUCCESS
    joints = listener.node.create_publisher(JointState, embodiment.joint_states_topic, RECORDING)
    last = node.create_publisher(Empty, "sentinel", RECORDING)
    both(listener, node, lambda: joints.get_subscription_count() > 0, "the node is connected")
    both(listener, node, lambda: last.get_subscription_count() > 0, "the listener is connected")
    received = []
    node.create_subscription(JointState, embodiment.joint_states_topic, received.append, RECORDING)
    both(listener, node, lambda: joints.get_subscription_count() > 1, "a witness is connected")
    pose = [0.0] * embodiment.dof
    joints.publish(joint_state_message(1_000_000_000, embodiment.joint_names, pose))
    both(listener, node, lambda: received, "the joint state arrives")
    last.publish(Empty())  # goes out after anything that the node might have said
    both(listener, node, lambda: sentinel, "the sentinel arrives")
    assert (commands, statuses) == ([], [])

    assert node.trigger_activate() is SUCCESS
    both(listener, node, lambda: statuses, "an active node says how it stands")
    assert statuses[0].message == "no action chunk has arrived yet"


def test_a_deactivated_node_is_silent_and_can_be_activated_again(listener, make_node) -> None:
    node = make_node(ControlNode, lockstep="true")
    statuses = listener.hear(DiagnosticStatus, "control_node/status", LATCHED)
    sentinel = listener.hear(Empty, "sentinel", LATCHED)
    last = node.create_publisher(Empty, "sentinel", LATCHED)
    assert node.trigger_configure() is SUCCESS
    assert node.trigger_activate() is SUCCESS
    both(listener, node, lambda: statuses, "a status after the activation")

    assert node.trigger_deactivate() is SUCCESS
    said = len(statuses)
    node.publish_status()
    last.publish(Empty())
    both(listener, node, lambda: sentinel, "the sentinel arrives")
    assert len(statuses) == said

    assert node.trigger_activate() is SUCCESS
    both(listener, node, lambda: len(statuses) > said, "a status after the second activation")


def test_cleaning_up_leaves_no_publisher_subscription_or_service(make_node) -> None:
    node = make_node(ControlNode)

    def entities() -> tuple[int, ...]:
        kinds = (node.publishers, node.subscriptions, node.services, node.timers)
        return tuple(len(list(kind)) for kind in kinds)

    before = entities()
    for _ in range(2):
        assert node.trigger_configure() is SUCCESS
        assert entities() > before
        assert node.trigger_cleanup() is SUCCESS
        assert entities() == before


def configure_refusal(node, capfd: pytest.CaptureFixture) -> str:
    assert node.trigger_configure() is FAILURE
    return capfd.readouterr().err


def test_a_missing_embodiment_file_is_named(make_node, capfd: pytest.CaptureFixture) -> None:
    said = configure_refusal(make_node(ControlNode, embodiment="/nowhere.yaml"), capfd)
    assert "refused to configure: No embodiment file at '/nowhere.yaml'." in said


def test_an_unknown_policy_is_refused_with_the_alternatives(
    make_node, capfd: pytest.CaptureFixture
) -> None:
    said = configure_refusal(make_node(PolicyNode, policy="scripted:dance"), capfd)
    assert "Unknown scripted policy 'dance'. Choose from: hold, sweep, nan" in said


def changed_embodiment(path: Path, folder: Path, change: Callable[[dict], None]) -> Path:
    values = yaml.safe_load(path.read_text())
    change(values)
    changed = folder / "changed.yaml"
    changed.write_text(yaml.safe_dump(values))
    return changed


@pytest.fixture
def checkpoint(embodiment: Embodiment, tmp_path: Path) -> Path:
    pytest.importorskip("torch")
    from moxin_vla.policy.moxin.presets import write_random_checkpoint

    write_random_checkpoint(tmp_path / "checkpoint", embodiment, seed=0)
    return tmp_path / "checkpoint"


def test_a_checkpoint_for_other_joints_is_refused_with_both_lists(
    make_node, embodiment_path: Path, checkpoint: Path, tmp_path: Path, capfd
) -> None:
    def swap(values: dict) -> None:
        values["joints"][0], values["joints"][1] = values["joints"][1], values["joints"][0]

    other = changed_embodiment(embodiment_path, tmp_path, swap)
    said = configure_refusal(make_node(PolicyNode, embodiment=other, policy=checkpoint), capfd)
    assert "joints differ" in said
    assert "found in the checkpoint:    shoulder_pan, shoulder_lift, elbow_flex" in said
    assert "expected by the embodiment: shoulder_lift, shoulder_pan, elbow_flex" in said


def test_a_camera_that_the_robot_lacks_is_refused(
    make_node, embodiment_path: Path, checkpoint: Path, tmp_path: Path, capfd
) -> None:
    def blind(values: dict) -> None:
        values["cameras"] = [c for c in values["cameras"] if c["name"] != "wrist"]

    other = changed_embodiment(embodiment_path, tmp_path, blind)
    said = configure_refusal(make_node(PolicyNode, embodiment=other, policy=checkpoint), capfd)
    assert "Unknown camera 'wrist'. Embodiment 'so101_sim' has: front" in said


def test_after_a_refusal_the_node_can_be_configured(
    make_node, embodiment_path: Path, tmp_path: Path, capfd
) -> None:
    late = tmp_path / "late.yaml"
    node = make_node(ControlNode, embodiment=late)
    configure_refusal(node, capfd)
    late.write_text(embodiment_path.read_text())
    assert node.trigger_configure() is SUCCESS


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("execution_horizon", "0", "'execution_horizon' of control_node must be int in 1 .. 1000"),
        (
            "chunk_wait_s",
            "'soon'",
            "'chunk_wait_s' of control_node must be float in 0.0 .. 3600.0",
        ),
    ],
)
def test_a_parameter_out_of_range_or_type_is_refused(
    make_node, name: str, value: str, expected: str
) -> None:
    with pytest.raises(ParameterError, match=expected):
        make_node(ControlNode, **{name: value})


def test_a_parameter_that_would_not_take_effect_cannot_be_set(make_node) -> None:
    node = make_node(ControlNode)
    [result] = node.set_parameters([Parameter("execution_horizon", value=4)])
    assert not result.successful
    assert node.describe_parameter("execution_horizon").description.startswith("control steps")
