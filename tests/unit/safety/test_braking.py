"""Stops are exact at the ticks, keep every limit, and are not much longer than the fastest."""

import numpy as np
import pytest

from moxin_vla.safety.braking import Bounds, Braking

DT = 0.01
VELOCITY, ACCELERATION, JERK = 1.0, 4.0, 40.0


def braking(lower=-10.0, upper=10.0):
    sizes = (VELOCITY * DT, ACCELERATION * DT**2, JERK * DT**3)
    return Braking(Bounds(np.array([lower]), np.array([upper]), *(np.array([s]) for s in sizes)))


def full_speed():
    """Positions that speed up as the limits allow, oldest first, (n, 1)."""
    force = np.minimum(np.arange(11) * JERK * DT, ACCELERATION)  # up, then down again
    force = np.concatenate([force, np.full(14, ACCELERATION), force[::-1]])
    path = np.cumsum(np.cumsum(force)) * DT**2
    return np.concatenate([np.zeros(3), path, path[-1] + VELOCITY * DT * np.arange(1, 50)])[
        :, None
    ]


def rest(position=0.0):
    return np.full((3, 1), position)


def test_a_limit_that_cannot_be_kept_leaves_no_reach():
    racing = np.array([[0.999], [0.989], [0.979]])
    low, high = braking(upper=1.0).reach(racing).box()
    assert np.isnan(low[0]) and np.isnan(high[0])


def stop_ticks(braking, sent):
    """Ticks from the last command until standstill along the shortest stop."""
    reach = braking.reach(sent)
    length = int(np.argmax(reach.lower[:, 0] <= reach.upper[:, 0]))
    position = np.clip(2 * sent[0] - sent[1], reach.lower[length], reach.upper[length])
    stop = braking.stop(sent, position, np.array([length]))
    return 1 + int(np.flatnonzero(np.abs(np.diff(stop[:, 0])) > 0)[-1]) + 1


def test_a_stop_from_full_speed_takes_at_most_twice_the_fastest_possible():
    ruckig = pytest.importorskip("ruckig")
    sent = full_speed()[:-4:-1]
    assert (sent[0] - sent[1])[0] / DT == pytest.approx(VELOCITY)
    fastest = ruckig.Ruckig(1)
    asked, found = ruckig.InputParameter(1), ruckig.Trajectory(1)
    asked.control_interface = ruckig.ControlInterface.Velocity
    asked.current_velocity, asked.target_velocity = [VELOCITY], [0.0]
    asked.max_acceleration, asked.max_jerk = [ACCELERATION], [JERK]
    fastest.calculate(asked, found)
    ours_s = stop_ticks(braking(), sent) * DT
    assert found.duration <= ours_s <= 2.0 * found.duration


def test_a_plan_that_ends_too_close_to_a_limit_does_not_hold():
    limits = braking(upper=0.4)
    judged = np.array([True])
    path = full_speed() * 0.5
    start = int(np.argmax(path[:, 0] > 0.1))
    sent, ahead = path[start - 2 : start + 1][::-1], path[start + 1 :]
    near = ahead[ahead[:, 0] < 0.39]
    assert limits.holds(sent, near[:3], judged)
    assert not limits.holds(sent, near, judged)
