"""From every command on there is a way to standstill that breaks no limit, and it is taken."""

import dataclasses
from pathlib import Path

import numpy as np
from examples import FEWER
from hypothesis import given
from hypothesis import strategies as st

from moxin_vla.core.embodiment import load_embodiment
from moxin_vla.core.types import CommitReason
from moxin_vla.safety.limits import JointLimits

ROBOT = load_embodiment(Path(__file__).parents[2] / "config" / "embodiments" / "so101_sim.yaml")
LOWER, UPPER = ROBOT.position_lower, ROBOT.position_upper
TOLERANCE = 1e-9
ARM = np.arange(ROBOT.dof) != ROBOT.gripper_index


def limited_robot(velocity, acceleration, jerk, rate_hz, tolerance_rad):
    joints = tuple(
        dataclasses.replace(
            joint, velocity=velocity, acceleration=velocity * acceleration, jerk=velocity * jerk
        )
        for joint in ROBOT.joints
    )
    safety = dataclasses.replace(ROBOT.safety, path_tolerance_rad=tolerance_rad, workspace=None)
    return dataclasses.replace(ROBOT, joints=joints, control_rate_hz=rate_hz, safety=safety)


robots = st.builds(
    limited_robot,
    st.floats(0.2, 6.0),
    st.floats(2.0, 40.0),
    st.floats(20.0, 2000.0),
    st.sampled_from([20.0, 50.0, 100.0]),
    st.floats(0.01, 0.3),
)
seeds = st.integers(0, 2**32 - 1)


def assert_within(path, robot):
    """Every difference of positions (n, D), one control period apart, is within its limit."""
    path = np.array(path)
    assert np.all((path >= LOWER) & (path <= UPPER))
    sizes = (robot.velocity_limit, robot.acceleration_limit, robot.jerk_limit)
    for order, size in enumerate(sizes, start=1):
        change = np.abs(np.diff(path, n=order, axis=0)) / (robot.step_ns / 1e9) ** order
        assert np.all(change <= size + TOLERANCE), (order, change.max(axis=0), size)


def wander(limits, rng, ticks, robot):
    """Follow a target that drifts and sometimes jumps; return what was commanded, (n, D)."""
    target = start = rng.uniform(LOWER, UPPER)
    path = [start] * 3
    for _ in range(ticks):
        jump = rng.random() < 0.1
        drift = rng.normal(0.0, robot.velocity_limit * robot.step_ns / 1e9)
        target = rng.uniform(LOWER - 0.3, UPPER + 0.3) if jump else target + drift
        step = limits.brake(start) if rng.random() < 0.05 else limits.limit(target, start)
        path.append(step.positions)
    return path


@FEWER
@given(robots, seeds, st.integers(0, 60))
def test_the_way_to_standstill_is_within_the_limits_from_everywhere(robot, seed, ticks):
    limits = JointLimits(robot)
    path = wander(limits, np.random.default_rng(seed), ticks, robot)
    assert_within(path, robot)
    for _ in range(450):
        path.append(limits.brake(path[0]).positions)
        if limits.standing:
            break
    assert limits.standing
    assert_within(path, robot)


@FEWER
@given(robots, seeds, st.integers(1, 30))
def test_a_plan_is_played_as_it_was_reviewed_and_can_be_stopped_at_every_step(robot, seed, ticks):
    rng = np.random.default_rng(seed)
    limits = JointLimits(robot)
    path = wander(limits, rng, ticks, robot)
    largest = robot.velocity_limit * robot.step_ns / 1e9 * rng.choice([0.2, 0.8, 1.5])
    plan = path[-1] + np.cumsum(rng.uniform(-largest, largest, (10, robot.dof)), axis=0)
    review = limits.review(plan, path[0])
    assert 0.0 < review.speed <= 1.0
    if review.reason is not CommitReason.ACCEPTED:
        return
    limits.new_path()
    for k, target in enumerate(plan):
        result = limits.limit(target, path[0], review.speed, plan[k + 1 :])  # as ControlLoop does
        path.append(result.positions)
        if "slowed" not in result.limited:
            off = np.abs(result.positions - np.clip(target, LOWER, UPPER))[ARM]
            assert np.all(off <= robot.safety.path_tolerance_rad + TOLERANCE)
        stopping, stop = limits.preview(), path[-4:]
        for _ in range(20):
            stop.append(stopping.brake(path[0]).positions)
        assert_within(stop, robot)


@FEWER
@given(robots, seeds)
def test_an_arm_that_catches_up_gets_there_and_never_beyond(robot, seed):
    limits, rng = JointLimits(robot), np.random.default_rng(seed)
    start, target = rng.uniform(LOWER, UPPER, (2, ROBOT.dof))
    low, high = np.minimum(start, target) - 1e-4, np.maximum(start, target) + 1e-4
    fastest_s = np.max(np.abs(target - start) / robot.velocity_limit)
    ramps_s = 2.0 * np.max(robot.velocity_limit / robot.acceleration_limit)
    ramps_s += 4.0 * np.max(robot.acceleration_limit / robot.jerk_limit)
    path = []
    for _ in range(int((2.0 * (fastest_s + ramps_s) + 1.0) * robot.control_rate_hz)):
        limits.new_path()  # the target is all that counts, not the way there
        path.append(limits.limit(target, start).positions)
        assert np.all((path[-1] >= low) & (path[-1] <= high))
    assert np.max(np.abs(path[-1] - target)) < 1e-3
    assert_within([start] * 3 + path, robot)
