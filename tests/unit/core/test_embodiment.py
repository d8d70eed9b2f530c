"""An embodiment file is read whole or refused with what was found and what was expected."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import yaml

from moxin_vla.core.embodiment import ActionSpace, HoldBehaviour, load_embodiment
from moxin_vla.core.errors import EmbodimentError
from moxin_vla.core.protocols import PolicySpec

SHIPPED = Path(__file__).parents[3] / "config" / "embodiments" / "so101_sim.yaml"
JOINTS = "shoulder_pan, shoulder_lift, elbow_flex, wrist_flex, wrist_roll, gripper"


@pytest.fixture
def raw():
    return yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))


def refusal(tmp_path, raw):
    """Return the message with which the file is refused, less the leading path."""
    path = tmp_path / "robot.yaml"
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    with pytest.raises(EmbodimentError) as caught:
        load_embodiment(path)
    prefix = f"{path}: "
    assert str(caught.value).startswith(prefix)
    return str(caught.value).removeprefix(prefix)


def test_the_shipped_robot_reads_as_declared(raw):
    robot = load_embodiment(SHIPPED)
    assert ", ".join(robot.joint_names) == JOINTS
    assert (robot.dof, robot.gripper_index, robot.step_ns) == (6, 5, 50_000_000)
    assert robot.action_space is ActionSpace.JOINT_DELTA
    assert robot.hold is HoldBehaviour.LAST_COMMAND
    assert robot.camera_names == ("front", "wrist")
    assert (robot.camera("wrist").topic, robot.camera("wrist").width) == (
        "/camera/wrist/image_raw",
        96,
    )
    assert robot.position_lower[0] == -1.91986 and robot.position_upper[5] == 1.74533
    assert robot.velocity_limit.tolist() == [joint["velocity"] for joint in raw["joints"]]
    assert robot.position_lower.dtype == np.float64 and not robot.position_lower.flags.writeable


def test_a_missing_file_is_named(tmp_path):
    path = tmp_path / "none.yaml"
    with pytest.raises(EmbodimentError) as caught:
        load_embodiment(path)
    assert str(caught.value) == f"No embodiment file at '{path}'."


def test_broken_yaml_is_named(tmp_path):
    path = tmp_path / "robot.yaml"
    path.write_text("name: [", encoding="utf-8")
    with pytest.raises(EmbodimentError) as caught:
        load_embodiment(path)
    assert str(caught.value).startswith(f"'{path}' is not valid YAML: ")


def test_an_empty_file_is_told_what_belongs_in_it(tmp_path):
    assert refusal(tmp_path, None) == (
        "the embodiment must be a mapping with: name, description, simulated, control_rate_hz, "
        "action_space, hold, joints, gripper, cameras, joint_states_topic, watchdog, safety, "
        "kinematics. Got: None"
    )


def test_hold_has_no_default(tmp_path, raw):
    del raw["hold"]
    assert refusal(tmp_path, raw) == "the embodiment: missing hold"


def change(*path, to):
    def apply(raw):
        for key in path[:-1]:
            raw = raw[key]
        raw[path[-1]] = to

    return apply


@pytest.mark.parametrize(
    ("apply", "message"),
    [
        (
            change("hold", to="zeros"),
            "hold: unknown value 'zeros'. Choose from: last_command, measured_position",
        ),
        (
            change("action_space", to="torque"),
            "action_space: unknown value 'torque'. "
            "Choose from: joint_position, joint_delta, end_effector_delta",
        ),
        (
            change("gripper", "polarity", to=1),
            "gripper: unknown polarity. Known: joint, open, closed, threshold",
        ),
        (
            change("gripper", "joint", to="claw"),
            f"Gripper joint 'claw' is not a joint. Joints: {JOINTS}",
        ),
        (change("joints", to=[]), "'joints' must be a list with at least one entry. Got: []"),
        (
            change("cameras", to="front"),
            "'cameras' must be a list with at least one entry. Got: 'front'",
        ),
        (
            change("joints", 2, to="elbow"),
            "joints[2] must be a mapping with: name, position, velocity, acceleration, "
            "jerk. Got: 'elbow'",
        ),
        (
            change("joints", 0, "position", to=[1.0]),
            "joints[0]: position must be [lower, upper]. Got: [1.0]",
        ),
        (
            change("joints", 0, "position", to=[-1.0, ".inf"]),
            "joints[0]: position must be a finite number. Got: '.inf'",
        ),
        (
            change("joints", 0, "position", to=[1.0, -1.0]),
            "Joint 'shoulder_pan': position limits must be [lower, upper] with lower < upper. "
            "Got: [1.0, -1.0]",
        ),
        (
            change("joints", 5, "velocity", to=0),
            "Joint 'gripper': velocity must be positive. Got: 0.0",
        ),
        (
            change("joints", 5, "acceleration", to=-80.0),
            "Joint 'gripper': acceleration must be positive. Got: -80.0",
        ),
        (
            change("joints", 5, "jerk", to=0.0),
            "Joint 'gripper': jerk must be positive. Got: 0.0",
        ),
        (
            change("safety", "start_jump_rad", to=0),
            "safety: start_jump_rad must be positive. Got: 0.0",
        ),
        (
            change("safety", "reset_cooldown_s", to=-1),
            "safety: reset_cooldown_s must not be negative. Got: -1.0",
        ),
        (
            change("safety", "refuse_factor", to=0.5),
            "safety: refuse_factor must be at least 1. Got: 0.5",
        ),
        (
            change("safety", "workspace", to={"lower": [0, 0, 0]}),
            "safety: workspace: missing upper",
        ),
        (
            change("safety", "workspace", to={"lower": [0, 0], "upper": [1, 1, 1]}),
            "safety: workspace: lower must be [x, y, z]. Got: [0, 0]",
        ),
        (
            change("safety", "workspace", to={"lower": [0, 0, 1], "upper": [1, 1, 1]}),
            "workspace: lower must be below upper on every axis. "
            "Got: [0.0, 0.0, 1.0] and [1.0, 1.0, 1.0]",
        ),
        (
            change("joints", 5, "velocity", to="1e1"),
            "joints[5]: velocity must be a finite number. Got: '1e1'",
        ),
        (
            change("joints", 5, "velocity", to=float("inf")),
            "joints[5]: velocity must be a finite number. Got: inf",
        ),
        (
            change("joints", 1, "name", to="gripper"),
            "Every joint name must be unique. Repeated: gripper",
        ),
        (
            change("cameras", 1, "name", to="front"),
            "Every camera name must be unique. Repeated: front",
        ),
        (
            change("cameras", 1, "width", to=0),
            "Camera 'wrist': width and height must be at least 1 pixel. Got: 0x96",
        ),
        (
            change("cameras", 1, "height", to=96.5),
            "cameras[1]: height must be a whole number. Got: 96.5",
        ),
        (
            change("simulated", to="no"),
            "the embodiment: simulated must be true or false. Got: 'no'",
        ),
        (change("name", to=101), "the embodiment: name must be text. Got: 101"),
        (change("control_rate_hz", to=0), "control_rate_hz must be positive. Got: 0.0"),
        (
            change("control_rate_hz", to=True),
            "the embodiment: control_rate_hz must be a finite number. Got: True",
        ),
        (
            change("watchdog", "proprio_max_age_s", to=-1),
            "watchdog: proprio_max_age_s must be positive. Got: -1.0",
        ),
        (
            change("watchdog", to={"proprio_max_age_s": 1.0}),
            "watchdog: missing camera_max_age_s",
        ),
    ],
)
def test_a_wrong_field_is_refused_in_words(tmp_path, raw, apply, message):
    apply(raw)
    assert refusal(tmp_path, raw) == message


def test_an_unknown_camera_lists_the_known_ones():
    with pytest.raises(EmbodimentError) as caught:
        load_embodiment(SHIPPED).camera("top")
    assert str(caught.value) == ("Unknown camera 'top'. Embodiment 'so101_sim' has: front, wrist")


@pytest.fixture
def spec():
    return PolicySpec("nano", tuple(JOINTS.split(", ")), ("wrist",), 16, 20.0)


def test_a_fitting_policy_passes(spec):
    load_embodiment(SHIPPED).check_policy(spec)


def test_a_policy_with_other_joints_is_refused(spec):
    swapped = dataclasses.replace(spec, joints=spec.joints[::-1])
    with pytest.raises(EmbodimentError) as caught:
        load_embodiment(SHIPPED).check_policy(swapped)
    assert str(caught.value) == (
        "Policy 'nano' does not fit embodiment 'so101_sim': joints differ.\n"
        "  found in the checkpoint:    "
        "gripper, wrist_roll, wrist_flex, elbow_flex, shoulder_lift, shoulder_pan\n"
        f"  expected by the embodiment: {JOINTS}"
    )


def test_a_policy_with_an_unknown_camera_is_refused(spec):
    with pytest.raises(EmbodimentError) as caught:
        load_embodiment(SHIPPED).check_policy(dataclasses.replace(spec, cameras=("top",)))
    assert str(caught.value) == ("Unknown camera 'top'. Embodiment 'so101_sim' has: front, wrist")


def test_a_policy_trained_at_another_rate_is_refused(spec):
    with pytest.raises(EmbodimentError) as caught:
        load_embodiment(SHIPPED).check_policy(dataclasses.replace(spec, control_rate_hz=30.0))
    assert str(caught.value) == (
        "Policy 'nano' was trained at 30.0 Hz. Embodiment 'so101_sim' runs at 20.0 Hz."
    )
