"""No command leaves the limits, whatever is asked for."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from moxin_vla.core.embodiment import load_embodiment
from moxin_vla.safety.limits import JointLimits

ROBOT = load_embodiment(Path(__file__).parents[3] / "config" / "embodiments" / "so101_sim.yaml")
# One joint may move from -1 to 1 rad, by at most 2 rad/s * 0.05 s = 0.1 rad per tick.
JOINT = dataclasses.replace(ROBOT.joints[5], position=(-1.0, 1.0), velocity=2.0)
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
    assert limited(limits, 0.9, measured=0.5) == (pytest.approx(0.6), ("velocity",))


def test_later_steps_start_at_the_last_command(limits):
    reached = [limited(limits, 0.35, measured=0.0)[0] for _ in range(5)]
    assert reached == pytest.approx([0.1, 0.2, 0.3, 0.35, 0.35])


def test_velocity_holds_in_both_directions(limits):
    limited(limits, 0.0)
    assert limited(limits, -5.0)[0] == pytest.approx(-0.1)


def test_a_target_outside_is_clipped_and_named(limits):
    assert limited(limits, 1.5, measured=0.95) == (1.0, ("position",))
    assert limited(limits, -9.0) == (pytest.approx(0.9), ("position", "velocity"))


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
    limits = JointLimits(ROBOT)
    step = ROBOT.velocity_limit * 0.05
    assert limits.limit(np.full(6, 9.0), np.zeros(6)).positions == pytest.approx(step)


def test_neither_input_is_changed_and_the_result_is_read_only(limits):
    target, measured = at(5.0), at(0.0)
    result = limits.limit(target, measured)
    assert (target[0], measured[0]) == (5.0, 0.0)
    with pytest.raises(ValueError, match="read-only"):
        result.positions[0] = 0.0
