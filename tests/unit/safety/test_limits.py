"""No command leaves the limits, whatever is asked for."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from moxin_vla.core.embodiment import Workspace, load_embodiment
from moxin_vla.core.kinematics import Kinematics, Link
from moxin_vla.core.protocols import Review
from moxin_vla.core.types import CommitReason
from moxin_vla.safety.limits import JointLimits

ARM = load_embodiment(Path(__file__).parents[3] / "config" / "embodiments" / "so101_sim.yaml")
ROBOT = dataclasses.replace(
    ARM, kinematics=None, safety=dataclasses.replace(ARM.safety, workspace=None)
)
# One joint may move from -1 to 1 rad, by at most 2 rad/s * 0.05 s = 0.1 rad per tick; its speed
# may change by 0.2 rad per tick and tick, so that in these tests only the velocity counts.
JOINT = dataclasses.replace(
    ROBOT.joints[5], position=(-1.0, 1.0), velocity=2.0, acceleration=80.0, jerk=4000.0
)
ONE_JOINT = dataclasses.replace(ROBOT, joints=(JOINT,))


@pytest.fixture
def limits():
    return JointLimits(ONE_JOINT)


def at(value):
    return np.array([value])


def limited(limits, target, measured=0.0):
    result = limits.limit(at(target), at(measured))
    return result.positions[0], result.limited


def test_a_target_inside_passes_bit_for_bit(limits):
    assert limited(limits, 0.1 / 3, measured=0.0123) == (0.1 / 3, ())


def test_the_first_step_starts_at_the_measured_pose(limits):
    reached, names = limited(limits, 0.9, measured=0.5)
    assert (reached, names[0]) == (pytest.approx(0.6), "velocity")


def test_later_steps_start_at_the_last_command(limits):
    reached = [limited(limits, 0.35, measured=0.0)[0] for _ in range(5)]
    assert reached == pytest.approx([0.1, 0.2, 0.3, 0.35, 0.35])


def test_velocity_holds_in_both_directions(limits):
    limited(limits, 0.0)
    assert limited(limits, -5.0)[0] == pytest.approx(-0.1)


def test_a_target_outside_is_clipped_and_named(limits):
    assert limited(limits, 1.5, measured=0.95) == (1.0, ("position",))
    reached, names = limited(limits, -9.0)
    assert (reached, names[:2]) == (pytest.approx(0.9), ("position", "velocity"))


@pytest.mark.parametrize(("measured", "expected"), [(1.4, 1.0), (-1.4, -1.0)])
def test_a_pose_outside_starts_from_the_nearest_pose_inside(limits, measured, expected):
    assert limited(limits, measured, measured) == (expected, ("position",))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_target_that_is_not_finite_is_refused_and_changes_nothing(limits, bad):
    limited(limits, 0.05)
    assert limits.limit(at(bad), at(0.0)) is None
    assert limited(limits, 1.0)[0] == pytest.approx(0.15)


def test_a_first_pose_that_is_not_finite_is_refused(limits):
    assert limits.limit(at(0.0), at(np.nan)) is None


def test_a_target_of_another_size_is_refused(limits):
    assert limits.limit(np.zeros(2), at(0.0)) is None


def test_reset_starts_from_the_measured_pose_again(limits):
    limited(limits, 0.0)
    limits.reset()
    assert limited(limits, 0.9, measured=0.8) == (pytest.approx(0.9), ())


def test_every_joint_has_its_own_limits():
    slow = dataclasses.replace(ROBOT.joints[0], velocity=0.5)
    limits = JointLimits(dataclasses.replace(ROBOT, joints=(slow, *ROBOT.joints[1:])))
    target = np.array([0.2, 0.1, 0.0, 0.0, 0.0, 0.2])
    limits.new_path()
    assert limits.limit(target, np.zeros(6)).positions == pytest.approx(
        [0.025, 0.0125, 0.0, 0.0, 0.0, 0.025]
    )


def test_neither_input_is_changed_and_the_result_is_read_only(limits):
    target, measured = at(5.0), at(0.0)
    result = limits.limit(target, measured)
    assert (target[0], measured[0]) == (5.0, 0.0)
    with pytest.raises(ValueError, match="read-only"):
        result.positions[0] = 0.0


def judged(**changes):
    """Two joints, so that one is not the gripper, with the limits of `JOINT` except `changes`."""
    arm = dataclasses.replace(JOINT, name="shoulder_pan", **changes)
    return dataclasses.replace(ROBOT, joints=(arm, JOINT))


def test_a_plan_that_is_too_fast_keeps_its_path_and_takes_longer():
    limits = JointLimits(
        dataclasses.replace(
            ROBOT, joints=(judged().joints[0], dataclasses.replace(JOINT, name="wrist"), JOINT)
        )
    )
    corner, end = np.array([0.2, 0.0, 0.0]), np.array([0.2, 0.05, 0.0])
    played = [limits.limit(target, np.zeros(3)) for target in (corner, end, end)]
    assert played[0].positions == pytest.approx([0.1, 0.0, 0.0])
    assert played[0].limited == ("slowed",)
    assert played[1].positions == pytest.approx([0.2, 0.0, 0.0])
    assert played[2].positions == pytest.approx([0.2, 0.05, 0.0])


def test_the_gripper_is_limited_by_itself_and_slows_nobody():
    limits = JointLimits(judged())
    result = limits.limit(np.array([0.05, 0.9]), np.zeros(2))
    assert result.positions == pytest.approx([0.05, 0.1])
    assert "slowed" not in result.limited


def test_a_new_plan_does_not_play_what_was_left_of_the_old_one():
    limits = JointLimits(judged())
    limits.limit(np.array([0.15, 0.0]), np.zeros(2))
    limits.limit(np.array([0.25, 0.0]), np.zeros(2))
    limits.new_path()
    assert limits.limit(np.array([0.21, 0.0]), np.zeros(2)).positions[0] == pytest.approx(0.21)


def test_a_slower_plan_advances_by_the_share_asked_for():
    limits = JointLimits(judged())
    result = limits.limit(np.array([0.08, 0.0]), np.zeros(2), speed=0.5)
    assert (result.positions[0], result.limited) == (pytest.approx(0.04), ("slowed",))


def test_braking_ends_in_standstill_and_stays_there():
    limits = JointLimits(judged(acceleration=5.0, jerk=100.0))
    for target in np.linspace(0.0, 0.5, 12):
        limits.limit(np.array([target, 0.0]), np.zeros(2))
    assert not limits.standing
    path = [limits.brake(np.zeros(2)).positions[0] for _ in range(30)]
    assert path[0] > 0 and np.all(np.diff(path) >= 0)
    assert len(set(path[-15:])) == 1 and limits.standing


def test_braking_before_any_command_stands_at_the_measured_pose(limits):
    assert limits.standing
    assert limits.brake(at(0.3)).positions.tolist() == [0.3]
    assert limits.brake(at(0.1)).positions.tolist() == [0.3]


def test_braking_without_any_pose_is_impossible(limits):
    assert limits.brake(at(np.nan)) is None


def test_half_stale_proprio_is_good_for_half_speed(limits):
    half_ns = round(ROBOT.watchdog.proprio_max_age_s * 0.5e9)
    assert [limits.speed(0, now) for now in (0, half_ns, half_ns + 1)] == [1.0, 1.0, 0.5]


def steps(*first_joint):
    return np.array([[value, 0.0] for value in first_joint])


@pytest.mark.parametrize(
    ("plan", "reason", "speed"),
    [
        (steps(0.02, 0.05, 0.08), CommitReason.ACCEPTED, 1.0),
        (steps(0.02, 0.05, 0.5), CommitReason.OUT_OF_CONTRACT, 1.0),  # 4.5 times the velocity
        (steps(-0.2, -0.4, -2.2), CommitReason.OUT_OF_CONTRACT, 1.0),  # 1.2 rad outside
        (steps(1.1, 1.1), CommitReason.START_JUMP, 1.0),
    ],
)
def test_a_plan_is_refused_for_what_no_limit_should_have_to_mend(plan, reason, speed):
    review = JointLimits(judged()).review(plan, np.zeros(2))
    assert (review.reason, review.speed) == (reason, speed)


def test_a_start_jump_counts_only_until_the_arm_has_moved():
    limits = JointLimits(judged())
    far = np.array([-0.9, 0.0])
    assert limits.review(steps(0.2, 0.2), far).reason is CommitReason.START_JUMP
    limits.brake(far)
    assert limits.review(steps(0.2, 0.2), far).reason is CommitReason.START_JUMP
    limits.limit(np.array([-0.85, 0.0]), far)
    assert limits.review(steps(-0.8, -0.8), np.array([0.9, 0.0])).reason is CommitReason.ACCEPTED


def test_a_plan_that_turns_too_sharply_is_followed_more_slowly_on_its_path():
    arm = judged(acceleration=4.0, jerk=60.0).joints[0]
    robot = dataclasses.replace(
        ROBOT, joints=(arm, dataclasses.replace(arm, name="shoulder_lift"), JOINT)
    )
    ramp, nothing = np.linspace(0.04, 0.2, 5), np.zeros(5)
    corner = np.concatenate(
        [np.stack([ramp, nothing, nothing], 1), np.stack([nothing + 0.2, ramp, nothing], 1)]
    )

    safety = dataclasses.replace(robot.safety, path_tolerance_rad=1e-6)
    limits = JointLimits(dataclasses.replace(robot, safety=safety))
    assert limits.review(corner, np.zeros(3)) == Review(CommitReason.ACCEPTED, 1.0)
    targets = np.concatenate([corner, np.repeat(corner[-1:], 10, axis=0)])
    played = [
        limits.limit(target, np.zeros(3), 1.0, targets[i + 1 :])
        for i, target in enumerate(targets)
    ]
    path = np.array([result.positions for result in played])
    assert np.all((path[:, 1] < 1e-6) | (path[:, 0] > 0.2 - 1e-6)), (
        "first one joint, then the other"
    )
    assert path[-1] == pytest.approx(corner[-1], abs=1e-3)
    assert "slowed" in played[7].limited


def test_a_plan_that_starts_against_the_motion_cannot_be_followed_at_any_speed():
    robot = judged(acceleration=4.0, jerk=60.0)
    limits = JointLimits(robot)
    for target in np.cumsum([0.007, 0.014, 0.02, 0.03, 0.04, 0.05, 0.05, 0.05]):
        limits.limit(np.array([target, 0.0]), np.zeros(2))
    back = limits.limit(np.array([0.31, 0.0]), np.zeros(2)).positions[0]
    plan = steps(*np.linspace(back, back - 0.3, 8))
    assert limits.review(plan, np.zeros(2)).reason is CommitReason.CANNOT_BRAKE


def test_a_review_moves_nothing():
    limits = JointLimits(judged())
    limits.limit(np.array([0.05, 0.0]), np.zeros(2))
    limits.review(steps(*np.linspace(0.08, 0.8, 10), *np.linspace(0.72, 0.0, 10)), np.zeros(2))
    assert limits.limit(np.array([0.1, 0.0]), np.zeros(2)).positions[0] == pytest.approx(0.1)


def boxed(robot, side):
    """A robot whose first joint turns an arm of 1 m; its tip may go to y = +-`side`."""
    link = Link(robot.joint_names[0], (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, 1.0))
    workspace = Workspace((-2.0, -side, -1.0), (2.0, side, 1.0))
    safety = dataclasses.replace(robot.safety, workspace=workspace)
    chain = Kinematics((link,), (1.0, 0.0, 0.0))
    return dataclasses.replace(robot, safety=safety, kinematics=chain)


def test_the_end_effector_brakes_inside_its_box():
    limits = JointLimits(boxed(judged(acceleration=10.0, jerk=200.0), np.sin(0.5)))
    played = [limits.limit(np.array([0.9, 0.0]), np.zeros(2)) for _ in range(40)]
    reached = max(result.positions[0] for result in played)
    assert 0.3 < reached <= 0.5
    assert played[-1].limited == ("workspace",) and limits.standing


def test_an_end_effector_outside_its_box_may_come_back():
    limits = JointLimits(boxed(judged(), np.sin(0.5)))
    outside = np.array([0.8, 0.0])
    assert limits.limit(np.array([0.75, 0.0]), outside).positions[0] == pytest.approx(0.75)
    assert limits.limit(np.array([0.85, 0.0]), outside).limited == ("workspace",)


def test_an_arm_on_its_plan_goes_where_the_long_way_of_finding_out_would_send_it(monkeypatch):
    robot = dataclasses.replace(
        ARM,
        joints=tuple(dataclasses.replace(j, acceleration=40.0, jerk=900.0) for j in ARM.joints),
    )
    short, long = JointLimits(robot), JointLimits(robot)
    monkeypatch.setattr(long, "_follow", lambda *_: None)
    share = np.linspace(0.0, 1.0, 200)[:, None]
    plan = 0.3 * share * np.sin(6 * np.pi * share + np.arange(6)) + [0.0, -0.6, 0.6, 0.6, 0.0, 0.4]
    followed = 0
    for step in plan:
        one, other = (limits.limit(step, plan[0]) for limits in (short, long))
        np.testing.assert_allclose(one.positions, other.positions, atol=1e-12)
        assert one.limited == other.limited
        followed += one.limited == ()
    assert followed > 150
    for _ in range(20):
        one, other = (limits.brake(plan[0]) for limits in (short, long))
        np.testing.assert_allclose(one.positions, other.positions, atol=0.02)
