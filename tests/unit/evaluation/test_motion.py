"""Jumps where plans meet, and jerk."""

import numpy as np
import pytest

from moxin_vla.core.protocols import EpisodeSpec, EpisodeStatus
from moxin_vla.evaluation.motion import motion
from moxin_vla.evaluation.rollout import EpisodeResult

GRIPPER = 1


def result(commands, landed):
    commands = np.array(commands, float)
    spec, status = EpisodeSpec(0, "pick", "x"), EpisodeStatus(len(commands), 99, False)
    return EpisodeResult(
        spec, status, 50_000_000, commands, commands, [], [], 0.0, landed=list(landed)
    )


def test_going_on_at_the_same_speed_is_no_jump():
    ramp = [[0.1 * t, 0.0] for t in range(10)]
    moved = motion(result(ramp, (0, 4, 8)), GRIPPER)
    assert moved.jumps_rad == pytest.approx([0.0, 0.0], abs=1e-12)
    assert moved.jerk_rms == pytest.approx(0.0, abs=1e-9)


def test_a_jump_is_the_change_of_step_at_the_tick_of_the_new_plan():
    arm = [0.0, 0.0, 0.0, 0.0, 0.3, 0.3, 0.3, 0.3]
    commands = [[a, 0.0] for a in arm]
    assert motion(result(commands, (0, 4)), GRIPPER).jumps_rad == pytest.approx([0.3])
    assert motion(result(commands, (0, 3)), GRIPPER).jumps_rad == pytest.approx([0.0])


def test_the_gripper_and_the_first_plan_do_not_count():
    commands = [[0.0, float(t % 2)] for t in range(8)]
    moved = motion(result(commands, (2, 5)), GRIPPER)
    assert moved.jumps_rad == (0.0,) and moved.jerk_rms == 0.0


def test_jerk_is_the_third_difference_over_the_period_cubed():
    commands = [[1e-3 * t**3, 0.0] for t in range(8)]
    assert motion(result(commands, ()), GRIPPER).jerk_rms == pytest.approx(6e-3 / 0.05**3)


def test_an_episode_too_short_has_no_jerk():
    moved = motion(result([[0.0, 0.0]] * 2, (0, 1)), GRIPPER)
    assert np.isnan(moved.jerk_rms) and moved.jumps_rad == ()
