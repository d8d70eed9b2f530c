"""The end effector of the SO-101, moved by its real kinematics."""

import dataclasses

import numpy as np
import pytest

from moxin_sim.robots.mink_arm import arm_kinematics
from moxin_sim.robots.so101 import model_path
from moxin_vla.core.embodiment import load_embodiment
from moxin_vla.core.errors import SimulationError
from moxin_vla.core.resources import resource_path
from moxin_vla.core.types import frozen_array
from moxin_vla.safety.kinematics import forward_kinematics
from moxin_vla.teleop.base import Mode, OperatorEvent, OperatorInput
from moxin_vla.teleop.drive import Arm, Drive
from moxin_vla.teleop.end_effector import EndEffectorMapping, rotation_about
from moxin_vla.teleop.mapping import FollowMapping, FullSpeed

ROBOT = load_embodiment(resource_path("config/embodiments/so101_sim.yaml"))
POSITION = forward_kinematics(ROBOT)  # joints (..., D) -> (..., 3), another code than mink's
GRIPPER, PERIOD_S = ROBOT.gripper_index, 0.05
START = frozen_array([0.0, -0.6, 0.6, 1.2, 0.0, 0.4])  # in front of it, above the table
CALM = FullSpeed(linear_m_s=0.1, angular_rad_s=0.5)  # no joint has to be faster than it may
XYZ = pytest.mark.parametrize("axis", [0, 1, 2], ids="xyz".__getitem__)


@pytest.fixture(scope="module")
def kinematics():
    return arm_kinematics(ROBOT)


def along(axis: int, rate: float = 1.0) -> OperatorInput:
    return OperatorInput(held=True, twist=rate * np.eye(6)[axis])


def moved(mapping, wanted, ticks, start=START, speed=1.0):
    """Return the targets of all ticks, (ticks + 1, D)."""
    targets = [start]
    for _ in range(ticks):
        targets.append(mapping.advance(targets[-1], wanted, speed))
    return np.array(targets)


@XYZ
@pytest.mark.parametrize("rate", [1.0, -0.5])
def test_the_end_effector_moves_straight_along_an_axis_of_the_base(kinematics, axis, rate):
    mapping = EndEffectorMapping(ROBOT, CALM, kinematics)
    mapping.begin(START)
    way = POSITION(moved(mapping, along(axis, rate), ticks=10, speed=0.8))
    expected = np.arange(11)[:, None] * 0.8 * rate * 0.1 * PERIOD_S * np.eye(3)[axis]
    assert np.allclose(way - way[0], expected, rtol=0.0, atol=0.001)


@pytest.mark.parametrize("axis", [4, 5], ids=["pitch", "roll"])
def test_it_turns_about_its_own_axes_on_the_spot(kinematics, axis):
    mapping = EndEffectorMapping(ROBOT, CALM, kinematics)
    mapping.begin(START)
    targets = moved(mapping, along(axis), ticks=10)
    before, after = kinematics.forward(START), kinematics.forward(targets[-1])
    turn = rotation_about(np.eye(3)[axis - 3] * 10 * 0.5 * PERIOD_S)
    assert np.allclose(before.rotation.T @ after.rotation, turn, atol=0.02)
    assert np.allclose(POSITION(targets), before.position, rtol=0.0, atol=0.001)


def test_a_turn_that_five_joints_can_not_make_moves_it_nowhere(kinematics):
    mapping = EndEffectorMapping(ROBOT, CALM, kinematics)
    mapping.begin(START)
    assert np.ptp(POSITION(moved(mapping, along(3), ticks=40)), axis=0).max() < 0.003


@pytest.mark.parametrize("twist", [None, np.zeros(6)])
@pytest.mark.parametrize("ticks", [0, 150], ids=["at first", "at the end of its reach"])
def test_without_a_twist_the_joints_stay_exactly(kinematics, twist, ticks):
    mapping = EndEffectorMapping(ROBOT, CALM, kinematics)
    mapping.begin(START)
    there = moved(mapping, along(0), ticks)[-1]
    targets = moved(mapping, OperatorInput(held=True, twist=twist), 20, there)
    assert np.array_equal(targets, np.tile(there, (21, 1)))


def test_rates_beyond_one_count_as_one(kinematics):
    most, more = (EndEffectorMapping(ROBOT, CALM, kinematics) for _ in range(2))
    assert np.array_equal(moved(most, along(2, -1.0), 5), moved(more, along(2, -7.0), 5))


def test_moved_by_other_means_it_goes_on_from_there(kinematics):
    mapping = EndEffectorMapping(ROBOT, CALM, kinematics)
    mapping.begin(START)
    moved(mapping, along(0), ticks=5)
    there = START + np.array([0.3, 0.1, 0.0, 0.0, 0.0, 0.0])
    way = POSITION(moved(mapping, along(2), ticks=1, start=there))
    assert way[1] - way[0] == pytest.approx([0.0, 0.0, 0.1 * PERIOD_S], abs=0.0005)


def test_the_gripper_opens_on_its_own_and_nothing_else_moves_it(kinematics):
    mapping = EndEffectorMapping(ROBOT, CALM, kinematics)
    mapping.begin(START)
    still = moved(mapping, along(2), ticks=10)
    assert np.all(still[:, GRIPPER] == START[GRIPPER])
    mapping.begin(START)
    opening = moved(mapping, dataclasses.replace(along(2), gripper=0.1), ticks=10)
    assert np.diff(opening[:, GRIPPER]) == pytest.approx(0.1 * 3.0 * PERIOD_S)
    assert np.allclose(np.delete(opening, GRIPPER, 1), np.delete(still, GRIPPER, 1), atol=1e-6)


@pytest.mark.parametrize(("joint_rad_s", "allowed"), [(0.3, 0.3), (100.0, 0.2)])
def test_no_joint_is_faster_than_allowed_however_fast_the_twist(kinematics, joint_rad_s, allowed):
    joints = [dataclasses.replace(j, velocity=min(j.velocity, allowed)) for j in ROBOT.joints]
    robot = dataclasses.replace(ROBOT, joints=tuple(joints))
    full = FullSpeed(joint_rad_s=joint_rad_s, linear_m_s=5.0, angular_rad_s=50.0)
    mapping = EndEffectorMapping(robot, full, kinematics)
    mapping.begin(START)
    wanted = OperatorInput(held=True, twist=np.array([1.0, -1.0, 9.0, 1.0, 1.0, -1.0]))
    speeds = np.abs(np.diff(moved(mapping, wanted, ticks=40), axis=0)) / PERIOD_S
    assert speeds.max() == pytest.approx(allowed)


@XYZ
@pytest.mark.parametrize("rate", [1.0, -1.0])
def test_at_a_limit_nothing_winds_up_and_no_joint_leaves_its_range(kinematics, axis, rate):
    pushed, fresh = (EndEffectorMapping(ROBOT, CALM, kinematics) for _ in range(2))
    pushed.begin(START)
    targets = moved(pushed, along(axis, rate), ticks=150)
    assert np.all((targets >= ROBOT.position_lower) & (targets <= ROBOT.position_upper))
    fresh.begin(targets[-1])
    back, anew = (moved(m, along(axis, -rate), 5, targets[-1]) for m in (pushed, fresh))
    assert np.allclose(POSITION(back), POSITION(anew), rtol=0.0, atol=0.0025)


@XYZ
@pytest.mark.parametrize("speed", [1.0, 0.25])
def test_at_the_end_of_its_reach_the_arm_does_not_tremble(kinematics, axis, speed):
    mapping = EndEffectorMapping(ROBOT, FullSpeed(), kinematics)
    mapping.begin(START)
    steps = np.diff(moved(mapping, along(axis), ticks=200, speed=speed), axis=0)
    back = (steps[1:] * steps[:-1] < 0.0) & (np.abs(steps[1:]) > 0.01)  # 0.2 rad/s
    assert np.count_nonzero(back.any(axis=1)) <= 3


@pytest.mark.parametrize("index", [0, 3])
def test_a_twist_that_is_no_number_moves_nothing_and_leaves_no_trace(kinematics, index):
    mapping = EndEffectorMapping(ROBOT, CALM, kinematics)
    follow = FollowMapping(ROBOT, CALM, aligns=False)
    modes = {Mode.END_EFFECTOR: mapping}
    drive, here = Drive(ROBOT, modes, follow, mode=Mode.END_EFFECTOR), Arm(START, operated=True)
    drive.update(OperatorInput(events=(OperatorEvent.TAKE,)), here)
    broken = OperatorInput(held=True, twist=np.where(np.arange(6) == index, np.nan, 0.0))
    assert np.array_equal(drive.update(broken, here).target, START)
    after = POSITION(drive.update(along(2), here).target) - POSITION(START)
    assert after == pytest.approx([0.0, 0.0, 0.5 * 0.1 * PERIOD_S], abs=0.0005)


def test_it_is_where_the_embodiment_says(kinematics):
    rng = np.random.default_rng(0)
    for pose in rng.uniform(ROBOT.position_lower, ROBOT.position_upper, (20, 6)):
        assert np.allclose(kinematics.forward(pose).position, POSITION(pose), atol=1e-6)


def test_a_model_file_is_read_and_a_body_can_be_the_end_effector(kinematics):
    from_file = arm_kinematics(ROBOT, str(model_path()), "gripperframe").forward(START)
    assert np.allclose(from_file.position, kinematics.forward(START).position, atol=1e-9)
    wrist = arm_kinematics(ROBOT, str(model_path()), "gripper").forward(START)
    assert 0.05 < np.linalg.norm(wrist.position - from_file.position) < 0.15


def test_a_robot_model_that_is_not_there_or_none_is_refused(tmp_path):
    with pytest.raises(SimulationError, match=r"There is no robot model at '.*nothing\.xml'"):
        arm_kinematics(ROBOT, str(tmp_path / "nothing.xml"), "tool")
    text = tmp_path / "notes.xml"
    text.write_text("no model", encoding="utf-8")
    with pytest.raises(SimulationError, match=r"notes\.xml' is no MJCF or URDF: "):
        arm_kinematics(ROBOT, str(text), "tool")


def test_an_end_effector_must_be_said_and_be_in_the_model():
    with pytest.raises(SimulationError, match=r"Say which site or body of '.*' is the end effe"):
        arm_kinematics(ROBOT, str(model_path()))
    with pytest.raises(SimulationError, match=r"no end effector 'hand'\. Sites: .*gripperframe"):
        arm_kinematics(ROBOT, end_effector="hand")


def test_a_model_of_another_robot_is_refused_with_both_lists_of_joints():
    anywhere = dataclasses.replace(ROBOT.safety, workspace=None)
    joints = (dataclasses.replace(ROBOT.joints[0], name="base"), *ROBOT.joints[1:])
    other = dataclasses.replace(ROBOT, joints=joints, kinematics=None, safety=anywhere)
    expected = r"model lacks: base\n.*found in the model: +shoulder_pan.*\n.*embodiment: base, sh"
    with pytest.raises(SimulationError, match=expected):
        arm_kinematics(other)
