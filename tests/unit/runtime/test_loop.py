"""The control loop plays chunks, and stands still for a stated reason whenever it can't."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from moxin_vla.core.embodiment import HoldBehaviour, load_embodiment
from moxin_vla.core.protocols import Limited, Review
from moxin_vla.core.types import ActionChunk, CommitReason, ControlMode, HoldReason
from moxin_vla.runtime.loop import ControlLoop

ROBOT = load_embodiment(Path(__file__).parents[3] / "config" / "embodiments" / "so101_sim.yaml")
STEP = ROBOT.step_ns


class Passing:
    """A safety filter that lets every finite target pass, and calls data stale after 5 steps."""

    standing = True

    def __init__(self):
        self.last = None

    def reset(self):
        self.last = None

    def new_path(self):
        pass

    def fresh(self, proprio_time_ns, now_ns):
        return now_ns - proprio_time_ns <= 5 * STEP

    def speed(self, proprio_time_ns, now_ns):
        return 1.0

    def review(self, steps, measured):
        return Review(CommitReason.ACCEPTED)

    def limit(self, target, measured, speed=1.0, ahead=None):
        if not np.all(np.isfinite(target)):
            return None
        self.last = np.array(target)
        return Limited(self.last)

    def settle(self, target):
        self.last = target

    def brake(self, measured):
        return self.limit(measured if self.last is None else self.last, measured)


class Refusing(Passing):
    """Refuses whatever is above 0.5 rad."""

    def limit(self, target, measured, speed=1.0, ahead=None):
        return super().limit(target, measured) if np.max(target) <= 0.5 else None


def pose(value):
    return np.full(6, value)


def chunk(tick, value=1.0, steps=8):
    return ActionChunk(tick * STEP, STEP, np.full((steps, 6), value))


class Driver:
    """Ticks a loop by number, with fresh proprio unless told otherwise."""

    def __init__(self, robot=ROBOT, safety=None):
        self.loop = ControlLoop(robot, safety or Passing())

    def tick(self, k, measured=0.0, proprio_tick=None):
        time_ns = STEP * (k if proprio_tick is None else proprio_tick)
        return self.loop.tick(STEP * k, pose(measured), time_ns)

    def blind_tick(self, k):
        return self.loop.tick(STEP * k, None, None)

    def commit(self, k, offered):
        return self.loop.commit(offered, STEP * k)


@pytest.fixture
def driver():
    return Driver()


def said(command):
    return command.mode, command.reason, command.positions[0]


def test_nothing_is_commanded_before_a_pose_was_measured(driver):
    driver.commit(0, chunk(0))
    assert driver.blind_tick(0) is None
    status = driver.loop.status()
    assert (status.mode, status.reason) == (ControlMode.WAITING, HoldReason.PROPRIO_STALE)
    assert status.stale_ticks == 1


@pytest.mark.parametrize(
    "proprio", [np.full(6, np.nan), np.zeros(5), np.zeros((1, 6)), np.array(0.0)]
)
def test_an_unusable_pose_counts_as_none(driver, proprio):
    assert driver.loop.tick(0, proprio, 0) is None


def test_a_pose_without_a_stamp_counts_as_none(driver):
    assert driver.loop.tick(0, pose(0.3), None) is None


def test_a_first_pose_that_is_stale_is_not_commanded(driver):
    assert driver.tick(10, proprio_tick=4) is None


def test_it_waits_at_the_measured_pose_without_a_chunk(driver):
    expected = (ControlMode.WAITING, HoldReason.NO_CHUNK, 0.3)
    assert said(driver.tick(0, measured=0.3)) == expected


def test_waiting_does_not_follow_a_sagging_arm(driver):
    held = [driver.tick(k, measured=0.3 - 0.01 * k).positions[0] for k in range(5)]
    assert held == [0.3] * 5


def test_it_plays_a_chunk(driver):
    assert driver.commit(2, chunk(0)).trimmed_steps == 2
    assert said(driver.tick(2)) == (ControlMode.RUNNING, HoldReason.NONE, 1.0)
    status = driver.loop.status()
    assert (status.commits, status.trimmed_steps, status.steps_left) == (1, 2, 6)
    assert status.chunk_age_s == pytest.approx(2 * STEP / 1e9)


def test_starvation_holds_the_last_command_and_is_counted(driver):
    driver.commit(0, chunk(0, steps=2))
    commands = [driver.tick(k, measured=0.2) for k in range(5)]
    assert [said(c) for c in commands[2:]] == [(ControlMode.HOLDING, HoldReason.STARVED, 1.0)] * 3
    assert driver.loop.status().starved_ticks == 3


def test_a_late_chunk_ends_starvation(driver):
    driver.commit(0, chunk(0, steps=1))
    driver.tick(0)
    driver.tick(1)
    driver.commit(2, chunk(1, value=0.5))
    assert said(driver.tick(2)) == (ControlMode.RUNNING, HoldReason.NONE, 0.5)


def test_holding_the_measured_position_fixes_it_when_the_hold_begins():
    driver = Driver(dataclasses.replace(ROBOT, hold=HoldBehaviour.MEASURED_POSITION))
    driver.commit(0, chunk(0, steps=1))
    driver.tick(0)
    held = [driver.tick(k, measured=0.2 + 0.1 * k).positions[0] for k in (1, 2, 3)]
    assert held == [pytest.approx(0.3)] * 3
    driver.commit(4, chunk(4, steps=1))
    driver.tick(4)
    assert driver.tick(5, measured=0.9).positions[0] == 0.9


@pytest.mark.parametrize("hold", HoldBehaviour)
def test_stale_proprio_holds_the_last_command(hold):
    driver = Driver(dataclasses.replace(ROBOT, hold=hold))
    driver.commit(0, chunk(0, steps=16))
    driver.tick(0)
    expected = (ControlMode.HOLDING, HoldReason.PROPRIO_STALE, 1.0)
    assert driver.tick(5, proprio_tick=0).mode is ControlMode.RUNNING
    assert said(driver.tick(6, proprio_tick=0)) == expected
    assert said(driver.blind_tick(7)) == expected
    assert said(driver.loop.tick(8 * STEP, pose(np.nan), 8 * STEP)) == expected
    assert driver.tick(9).mode is ControlMode.RUNNING
    assert driver.loop.status().stale_ticks == 3


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_chunk_that_is_not_finite_holds_until_a_good_one_arrives(driver, bad):
    driver.commit(0, chunk(0))
    driver.tick(0)
    assert driver.commit(1, chunk(1, value=bad)).reason is CommitReason.NOT_FINITE
    expected = (ControlMode.HOLDING, HoldReason.NOT_FINITE, 1.0)
    assert [said(driver.tick(k)) for k in (1, 2)] == [expected] * 2
    driver.commit(3, chunk(3, value=0.5))
    assert said(driver.tick(3)) == (ControlMode.RUNNING, HoldReason.NONE, 0.5)
    status = driver.loop.status()
    assert (status.not_finite, dict(status.rejected)) == (1, {CommitReason.NOT_FINITE: 1})


def test_another_refused_chunk_does_not_stop_the_plan(driver):
    driver.commit(1, chunk(1))
    for late in (0, 0):
        assert driver.commit(1, chunk(late)).reason is CommitReason.OUT_OF_ORDER
    assert driver.tick(1).mode is ControlMode.RUNNING
    assert dict(driver.loop.status().rejected) == {CommitReason.OUT_OF_ORDER: 2}


def test_a_target_that_safety_refuses_is_held_and_counted():
    driver = Driver(safety=Refusing())
    driver.tick(0, measured=0.1)
    driver.commit(1, chunk(1, value=0.6))
    expected = (ControlMode.HOLDING, HoldReason.NOT_FINITE, 0.1)
    assert said(driver.tick(1, measured=0.2)) == expected
    assert driver.loop.status().not_finite == 1


def test_stop_latches_until_reset(driver):
    driver.commit(0, chunk(0))
    driver.tick(0)
    driver.loop.stop()
    assert driver.loop.status().mode is ControlMode.STOPPED
    driver.loop.enable(True)
    driver.commit(1, chunk(1, value=0.5))
    expected = (ControlMode.STOPPED, HoldReason.STOP_REQUESTED, 1.0)
    assert [said(driver.tick(k)) for k in (1, 2)] == [expected] * 2
    driver.loop.reset()
    assert said(driver.tick(3)) == (ControlMode.WAITING, HoldReason.NO_CHUNK, 0.0)
    driver.commit(4, chunk(4))
    assert driver.tick(4).mode is ControlMode.RUNNING


def test_stop_before_any_pose_commands_nothing(driver):
    driver.loop.stop()
    assert driver.blind_tick(0) is None
    assert driver.loop.status().mode is ControlMode.STOPPED


def test_disabling_holds_and_enabling_goes_on(driver):
    driver.commit(0, chunk(0))
    driver.tick(0)
    driver.loop.enable(False)
    assert said(driver.tick(1)) == (ControlMode.HOLDING, HoldReason.NOT_ENABLED, 1.0)
    driver.loop.enable(True)
    assert driver.tick(2).mode is ControlMode.RUNNING


def test_hardware_needs_an_explicit_enable():
    driver = Driver(dataclasses.replace(ROBOT, simulated=False))
    driver.commit(0, chunk(0))
    assert said(driver.tick(0, 0.3)) == (ControlMode.HOLDING, HoldReason.NOT_ENABLED, 0.3)
    driver.loop.enable(True)
    assert driver.tick(1).mode is ControlMode.RUNNING
    driver.loop.reset()
    driver.commit(2, chunk(2))
    assert driver.tick(2).mode is ControlMode.RUNNING


def test_a_clock_that_goes_back_holds_until_a_new_chunk(driver):
    driver.commit(100, chunk(100))
    driver.tick(100)
    expected = (ControlMode.HOLDING, HoldReason.CLOCK_WENT_BACK, 1.0)
    assert [said(driver.tick(k)) for k in (2, 3)] == [expected] * 2
    assert driver.commit(3, chunk(100)).reason is CommitReason.FROM_THE_FUTURE
    assert driver.commit(3, chunk(3, value=0.5)).accepted
    assert driver.tick(4).positions[0] == 0.5
    assert driver.loop.status().clock_resets == 1


def test_a_chunk_of_the_new_run_of_the_clock_is_taken_before_the_first_tick(driver):
    driver.commit(100, chunk(100))
    driver.tick(100)
    assert driver.commit(3, chunk(2, value=0.5)).accepted
    assert driver.tick(3).positions[0] == 0.5
    assert driver.loop.status().clock_resets == 1


def test_a_repeated_tick_is_no_clock_reset(driver):
    driver.commit(0, chunk(0))
    driver.tick(0)
    assert driver.tick(0).mode is ControlMode.RUNNING


def test_reset_forgets_pose_chunk_and_counts(driver):
    driver.commit(0, chunk(0))
    driver.commit(0, chunk(0, value=np.nan))
    driver.tick(0)
    driver.loop.reset()
    status = driver.loop.status()
    assert (status.ticks, status.commits, status.not_finite) == (0, 0, 0)
    assert (status.mode, status.reason) == (ControlMode.WAITING, HoldReason.NO_CHUNK)
    assert dict(status.rejected) == {} and status.chunk_age_s is None
    assert driver.blind_tick(1) is None


def test_a_status_is_not_changed_by_later_ticks(driver):
    driver.commit(0, chunk(0, value=np.nan))
    before = driver.loop.status()
    driver.commit(0, chunk(0, value=np.nan))
    assert before.rejected[CommitReason.NOT_FINITE] == before.not_finite == 1


def test_a_command_does_not_share_memory_with_the_caller(driver):
    measured = pose(0.3)
    command = driver.loop.tick(0, measured, 0)
    measured[:] = 9.0
    assert command.positions.tolist() == [0.3] * 6
