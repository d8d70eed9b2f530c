"""Faults latch, operators beat policies, and between two drivers the arm stands still."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from moxin_vla.core.embodiment import load_embodiment
from moxin_vla.core.types import ActionChunk, CommitReason, ControlMode, HoldReason
from moxin_vla.runtime.handover import Driver
from moxin_vla.runtime.loop import ControlLoop
from moxin_vla.safety.limits import JointLimits

ROBOT = load_embodiment(Path(__file__).parents[3] / "config" / "embodiments" / "so101_sim.yaml")
SLOW = dataclasses.replace(
    ROBOT, joints=tuple(dataclasses.replace(j, acceleration=8.0, jerk=160.0) for j in ROBOT.joints)
)
STEP = ROBOT.step_ns
LATCH = round(ROBOT.safety.latch_after_s * ROBOT.control_rate_hz)
TIMEOUT = round(ROBOT.safety.teleop_timeout_s * ROBOT.control_rate_hz)


def chunk(tick, value=0.1, steps=8):
    return ActionChunk(tick * STEP, STEP, np.full((steps, 6), value))


class Arm:
    """A loop ticked by number, on an arm that is wherever it was commanded."""

    def __init__(self, robot=SLOW):
        self.loop = ControlLoop(robot, JointLimits(robot))
        self.at, self.k = np.zeros(6), 0

    def tick(self, fresh=True):
        command = self.loop.tick(self.k * STEP, self.at, self.k * STEP if fresh else -(10**10))
        self.k += 1
        self.at = command.positions
        return command

    def play(self, value=0.1):
        """Commit a fresh chunk and tick once."""
        verdict = self.loop.commit(chunk(self.k, value), self.k * STEP)
        return verdict, self.tick()

    def operate(self, value):
        assert self.loop.operate(np.full(6, value), self.k * STEP)
        return self.tick()

    def rest(self, **how):
        """Tick until the arm stands; returns the last command."""
        for _ in range(100):
            command = self.tick(**how)
            if self.loop.standing:
                return command
        raise AssertionError("the arm never stands")


@pytest.fixture
def arm():
    arm = Arm()
    arm.tick()
    arm.play()
    arm.tick()
    assert not arm.loop.standing
    return arm


def test_a_stop_brakes_within_the_limits_and_then_stands(arm):
    moving = arm.at[0]
    arm.loop.stop()
    assert arm.tick().positions[0] > moving
    stopped = arm.rest()
    assert (stopped.mode, stopped.reason) == (ControlMode.STOPPED, HoldReason.STOP_REQUESTED)
    assert arm.tick().positions.tolist() == stopped.positions.tolist()


def test_a_short_fault_is_over_when_its_cause_is(arm):
    for _ in range(LATCH - 1):
        assert arm.tick(fresh=False).reason is HoldReason.PROPRIO_STALE
    assert arm.loop.latched is HoldReason.NONE
    assert arm.play()[1].mode is ControlMode.RUNNING


def test_a_fault_that_lasts_latches_until_reset(arm):
    for _ in range(LATCH):
        arm.tick(fresh=False)
    assert arm.loop.latched is HoldReason.PROPRIO_STALE
    _, command = arm.play()
    assert (command.mode, command.reason) == (ControlMode.FAULT, HoldReason.PROPRIO_STALE)
    arm.loop.reset()
    assert arm.loop.latched is HoldReason.NONE
    assert arm.play()[1].mode is ControlMode.RUNNING


def test_a_robot_that_is_slow_to_start_is_waited_for():
    arm = Arm()
    for k in range(2 * LATCH):
        assert arm.loop.tick(k * STEP, None, None) is None
    assert arm.loop.status().mode is ControlMode.WAITING
    arm.k = 2 * LATCH
    assert arm.play()[1].mode is ControlMode.RUNNING


def test_starvation_never_latches(arm):
    for _ in range(2 * LATCH):
        command = arm.tick()
    assert (command.mode, command.reason) == (ControlMode.HOLDING, HoldReason.STARVED)


def test_a_fault_found_outside_latches_at_once_and_a_stop_overrides_it(arm):
    arm.loop.fault(HoldReason.SECOND_COMMANDER)
    assert arm.tick().reason is HoldReason.SECOND_COMMANDER
    assert arm.loop.status().mode is ControlMode.FAULT
    arm.loop.stop()
    assert arm.tick().mode is ControlMode.STOPPED
    arm.loop.fault(HoldReason.SECOND_COMMANDER)
    assert arm.tick().mode is ControlMode.STOPPED


def test_a_policy_out_of_contract_has_no_say_over_its_former_plan(arm):
    wild = ActionChunk(arm.k * STEP, STEP, np.tile([[0.0], [3.0]], (4, 6)))
    assert arm.loop.commit(wild, arm.k * STEP).reason is CommitReason.OUT_OF_CONTRACT
    assert arm.tick().reason is HoldReason.OUT_OF_CONTRACT
    assert arm.play(0.15)[1].mode is ControlMode.RUNNING
    assert dict(arm.loop.status().rejected) == {CommitReason.OUT_OF_CONTRACT: 1}


def test_a_first_target_far_from_the_arm_is_refused():
    arm = Arm()
    arm.tick()
    verdict, command = arm.play(1.2)
    assert verdict.reason is CommitReason.START_JUMP
    assert (command.reason, command.positions.tolist()) == (HoldReason.START_JUMP, [0.0] * 6)
    assert arm.play(0.5)[1].mode is ControlMode.RUNNING


def test_a_chunk_that_came_before_the_first_pose_is_reviewed_with_it():
    arm = Arm()
    assert arm.loop.commit(chunk(0, 1.2), 0).accepted
    assert arm.tick().reason is HoldReason.START_JUMP
    assert dict(arm.loop.status().rejected) == {CommitReason.START_JUMP: 1}


def test_an_operator_takes_over_once_the_arm_stands(arm):
    reasons = [arm.operate(0.3).reason for _ in range(8)]
    changed = reasons.index(HoldReason.NONE)
    assert changed >= 2 and set(reasons[:changed]) == {HoldReason.HAND_OVER}
    assert set(reasons[changed:]) == {HoldReason.NONE}
    status = arm.loop.status()
    assert (status.driver, status.hand_overs) == (Driver.OPERATOR, 1)


def test_chunks_are_refused_while_the_operator_drives(arm):
    for _ in range(10):
        arm.operate(0.2)
        assert arm.loop.commit(chunk(arm.k), arm.k * STEP).reason is CommitReason.OPERATOR_DRIVES


def test_a_silent_operator_gives_control_back_and_the_policy_needs_a_new_plan(arm):
    for _ in range(20):
        arm.operate(0.2)
    reasons = [arm.tick().reason for _ in range(TIMEOUT + 4)]
    assert set(reasons[: TIMEOUT - 1]) == {HoldReason.NONE}
    assert HoldReason.HAND_OVER in reasons
    assert reasons[-1] is HoldReason.NO_CHUNK
    assert arm.play(0.25)[1].mode is ControlMode.RUNNING
    assert arm.loop.status().driver is Driver.POLICY


def test_an_operator_can_give_control_back_at_once(arm):
    for _ in range(20):
        arm.operate(0.2)
    arm.loop.release()
    assert arm.tick().reason is HoldReason.HAND_OVER
    arm.rest()
    assert arm.play(0.2)[1].mode is ControlMode.RUNNING


def test_an_operator_far_from_the_arm_is_waited_for(arm):
    for _ in range(20):
        far = arm.operate(1.2)
    assert (far.mode, far.reason) == (ControlMode.HOLDING, HoldReason.START_JUMP)
    for _ in range(10):
        near = arm.operate(0.3)
    assert near.mode is ControlMode.RUNNING


def test_an_unusable_operator_target_changes_nothing(arm):
    assert not arm.loop.operate(np.full(6, np.nan), arm.k * STEP)
    assert not arm.loop.operate(np.zeros(5), arm.k * STEP)
    assert arm.tick().mode is ControlMode.RUNNING
    assert arm.loop.status().operator_refused == 2


def test_a_stop_beats_the_operator(arm):
    for _ in range(20):
        arm.operate(0.2)
    arm.loop.stop()
    assert arm.operate(0.3).mode is ControlMode.STOPPED


def test_late_proprio_slows_the_arm_before_it_holds():
    arm = Arm(ROBOT)
    arm.tick()
    plan = ActionChunk(STEP, STEP, np.tile(np.linspace(0.01, 0.2, 20)[:, None], 6))
    arm.loop.commit(plan, STEP)
    steps = []
    for k in range(1, 8):
        command = arm.loop.tick(k * STEP, arm.at, STEP)  # measured once, at tick 1
        steps.append(command.positions[0])
    paces = np.diff(steps)
    assert paces[0] == pytest.approx(0.01)
    assert paces[2:4] == pytest.approx(0.005)
    assert command.reason is HoldReason.PROPRIO_STALE
