"""The control loop: one command per tick, whatever arrives and whatever does not."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moxin_vla.core.clock import NS_PER_S, seconds_to_ns
from moxin_vla.core.embodiment import Embodiment, HoldBehaviour
from moxin_vla.core.protocols import Joiner, Limited, SafetyFilter
from moxin_vla.core.types import (
    ActionChunk,
    Command,
    CommitReason,
    CommitVerdict,
    ControlMode,
    HoldReason,
    frozen_array,
)
from moxin_vla.runtime.faults import FaultLatch
from moxin_vla.runtime.handover import Driver, Handover
from moxin_vla.runtime.status import LoopCounters, LoopStatus
from moxin_vla.runtime.timeline import Timeline

_MODES = {
    HoldReason.NONE: ControlMode.RUNNING,
    HoldReason.NO_CHUNK: ControlMode.WAITING,
    HoldReason.STOP_REQUESTED: ControlMode.STOPPED,
}  # every other reason means HOLDING, or FAULT once it has latched
_FAULT_OF = {
    CommitReason.NOT_FINITE: HoldReason.NOT_FINITE,
    CommitReason.OUT_OF_CONTRACT: HoldReason.OUT_OF_CONTRACT,
    CommitReason.START_JUMP: HoldReason.START_JUMP,
}  # refused chunks after which the arm holds until a good one comes


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody wanted at a tick, before safety.

    Attributes:
        driver: Who; None if the arm held.
        positions: What, shape (D,), in [rad]; None if the arm held.
        chunk_age_ns: Age of the policy's plan, in [ns]; None without one.
    """

    driver: Driver | None = None
    positions: NDArray[np.float64] | None = None
    chunk_age_ns: int | None = None


class ControlLoop:
    """Plays chunks through safety, and brakes to standstill whenever it may not or can't play.

    Used from one thread (the control thread); never blocks, raises or asks for the time.
    A simulated embodiment starts enabled, any other needs `enable(True)`.
    """

    def __init__(
        self, embodiment: Embodiment, safety: SafetyFilter, joiner: Joiner | None = None
    ) -> None:
        self._embodiment = embodiment
        self._safety = safety
        self._timeline = Timeline(embodiment.dof, embodiment.step_ns, joiner)
        rules = embodiment.safety
        self._handover = Handover(embodiment.dof, seconds_to_ns(rules.teleop_timeout_s))
        self._latch = FaultLatch(round(rules.latch_after_s * embodiment.control_rate_hz))
        self._enabled = embodiment.simulated
        self.reset()

    @property
    def latched(self) -> HoldReason:
        """What only `reset` releases: a stop or a fault; NONE if nothing is latched."""
        return self._latch.latched

    @property
    def standing(self) -> bool:
        """True while the commands do not move."""
        return self._safety.standing

    @property
    def state(self) -> tuple[ControlMode, HoldReason, Driver]:
        """What `status` says first: cheap enough to look at after every tick."""
        return self._mode(), self._reason, self._handover.driver

    @property
    def asked(self) -> Asked:
        """Who asked for what at the last tick, before safety."""
        return self._asked

    def reset(self, after_ns: int | None = None) -> None:
        """Start afresh: forget chunk, poses and counts, release a stop or fault. `enable` stays.

        The next command starts from the measured pose, so the arm must be at rest.

        Args:
            after_ns: Chunks observed up to this moment, in [ns], are of another session.
        """
        self._timeline.reset(after_ns)
        self._safety.reset()
        self._handover.reset()
        self._latch.reset()
        self._counters = LoopCounters()
        self._fault = HoldReason.NONE  # of the last chunk or the clock; an accepted chunk clears
        self._reason = HoldReason.NO_CHUNK
        self._now_ns: int | None = None
        self._ticked_ns: int | None = None
        self._asked = Asked()
        self._measured: NDArray[np.float64] | None = None  # (D,), the last that was fresh
        self._settled = False  # whether the pose to hold was fixed, once the arm stood
        self._speed = 1.0  # at which the committed chunk is followed
        self._unreviewed: ActionChunk | None = None  # committed before any pose was measured

    def enable(self, enabled: bool) -> None:
        """Allow motion, or hold until it is allowed again."""
        self._enabled = enabled

    def stop(self) -> None:
        """Brake from the next tick on and stand; only `reset` releases it."""
        self.fault(HoldReason.STOP_REQUESTED)

    def fault(self, reason: HoldReason) -> None:
        """Latch a fault that was found outside; the arm brakes and stands until `reset`."""
        self._latch.latch(reason)
        self._reason = self._latch.latched

    def operate(self, target: NDArray[np.float64], now_ns: int) -> bool:
        """Take an operator's target, (D,) in [rad]: it beats the policy once the arm stands.

        Returns:
            False if the target is not usable; it then changes nothing.
        """
        self._watch_clock(now_ns)
        taken = self._handover.offer(target, now_ns)
        self._counters.operator_refused += not taken
        return taken

    def release(self) -> None:
        """Let the operator give control back; the policy goes on with its next new chunk."""
        self._handover.release()

    def commit(self, chunk: ActionChunk, now_ns: int) -> CommitVerdict:
        """Offer a chunk.

        One that holds NaN or infinity, or is far out of contract, is refused, and the arm holds
        until a good chunk arrives: a policy that has just failed has no say over the rest of its
        former plan. One that asks for a little too much is followed more slowly.

        Args:
            chunk: Absolute joint targets of shape (H, D), in [rad].
            now_ns: Control clock, in [ns].

        Returns:
            Verdict; counted in `status`.
        """
        self._watch_clock(now_ns)
        refused = self._review(chunk, now_ns)
        verdict = CommitVerdict(refused) if refused else self._timeline.commit(chunk, now_ns)
        if verdict.accepted:
            self._fault = HoldReason.NONE
            self._counters.commits += 1
            self._counters.trimmed_steps += verdict.trimmed_steps
            self._safety.new_path()
        else:
            self._count_refusal(verdict.reason)
        return verdict

    def tick(
        self,
        now_ns: int,
        proprio: NDArray[np.float64] | None,
        proprio_time_ns: int | None,
    ) -> Command | None:
        """Produce the command for the tick at `now_ns`.

        Args:
            now_ns: Control clock, in [ns].
            proprio: Newest measured joint positions, shape (D,), in [rad]; None if there are none.
            proprio_time_ns: When they were captured, in [ns].

        Returns:
            The command, finite and inside the limits; None until a usable pose was measured,
            because before that there is nothing safe to command.
        """
        self._counters.ticks += 1
        self._watch_clock(now_ns)
        fresh = self._measure(now_ns, proprio, proprio_time_ns)
        self._review_late(now_ns)
        self._ticked_ns = now_ns
        self._change_driver(now_ns)
        target = self._target(now_ns)
        self._asked = Asked()
        self._reason = self._reason_to_hold(target, fresh)
        if self._measured is not None:  # before, the robot is only starting up
            self._latch.note(self._reason)
        self._counters.starved_ticks += self._reason is HoldReason.STARVED
        if self._measured is None:
            return None
        if target is not None and self._reason is HoldReason.NONE:
            assert proprio_time_ns is not None
            speed = self._speed * self._safety.speed(proprio_time_ns, now_ns)
            ahead = self._ahead(now_ns)
            if limited := self._safety.limit(target, self._measured, speed, ahead):
                self._settled = False
                self._asked = Asked(self._handover.driver, target, self._chunk_age_ns(now_ns))
                return self._command(now_ns, limited)
            self._counters.not_finite += 1
            self._reason = HoldReason.NOT_FINITE
        return self._command(now_ns, self._hold(self._measured, fresh))

    def status(self) -> LoopStatus:
        """Return how the loop stood at its last tick."""
        observed_ns = self._timeline.observation_time_ns
        age_s, steps_left = None, 0
        if self._now_ns is not None:
            steps_left = self._timeline.steps_left(self._now_ns)
            age_s = None if observed_ns is None else (self._now_ns - observed_ns) / NS_PER_S
        return LoopStatus(
            mode=self._mode(),
            reason=self._reason,
            chunk_age_s=age_s,
            steps_left=steps_left,
            driver=self._handover.driver,
            standing=self._safety.standing,
            **self._counters.snapshot(),
        )

    def _watch_clock(self, now_ns: int) -> None:
        """Drop the plan when the clock goes back: its steps belong to another run of the clock."""
        if self._now_ns is not None and now_ns < self._now_ns:
            self._timeline.reset()
            self._fault = HoldReason.CLOCK_WENT_BACK
            self._counters.clock_resets += 1
        self._now_ns = now_ns

    def _measure(
        self, now_ns: int, proprio: NDArray[np.float64] | None, time_ns: int | None
    ) -> bool:
        """Take over the measured pose if it is usable; return whether it was."""
        if (
            proprio is not None
            and time_ns is not None
            and np.shape(proprio) == (self._embodiment.dof,)
            and np.all(np.isfinite(proprio))
            and self._safety.fresh(time_ns, now_ns)
        ):
            self._measured = frozen_array(proprio)  # (D,)
            return True
        self._counters.stale_ticks += 1
        return False

    def _review(self, chunk: ActionChunk, now_ns: int) -> CommitReason | None:
        """Return why a chunk is refused, or None to let the timeline judge it."""
        if self._handover.operated:
            return CommitReason.OPERATOR_DRIVES
        self._unreviewed = None
        preview = self._timeline.preview(chunk, now_ns, self._next_tick_ns(now_ns))
        if preview is None or len(preview.joined) == 0:
            return None
        if self._measured is None:
            self._unreviewed, self._speed = chunk, 1.0
            return None
        if not np.array_equal(preview.own, preview.joined):  # joining may hide what it asks for
            reason = self._safety.review(preview.own, self._measured).reason
            if reason in (CommitReason.OUT_OF_CONTRACT, CommitReason.START_JUMP):
                return reason
        review = self._safety.review(preview.joined, self._measured)
        if review.reason is not CommitReason.ACCEPTED:
            return review.reason
        self._counters.slowed_chunks += review.speed < 1.0
        self._speed = review.speed
        return None

    def _next_tick_ns(self, now_ns: int) -> int:
        """Return when the next command is due: a period after the last, unless that has passed."""
        if self._ticked_ns is None or self._ticked_ns > now_ns:
            return now_ns
        return max(now_ns, self._ticked_ns + self._embodiment.step_ns)

    def _review_late(self, now_ns: int) -> None:
        """Review a chunk that came before the first pose; take it back if it is refused."""
        if self._unreviewed is None or self._measured is None:
            return
        if refused := self._review(self._unreviewed, now_ns):
            self._timeline.reset()
            self._count_refusal(refused)

    def _count_refusal(self, reason: CommitReason) -> None:
        self._counters.rejected[reason] += 1
        self._counters.not_finite += reason is CommitReason.NOT_FINITE
        self._fault = _FAULT_OF.get(reason, self._fault)

    def _change_driver(self, now_ns: int) -> None:
        """Let the other one drive once the arm stands; each begins with nothing of the former."""
        if self._handover.update(now_ns, self._safety.standing):
            self._counters.hand_overs += 1
            self._timeline.reset(now_ns)

    def _target(self, now_ns: int) -> NDArray[np.float64] | None:
        """Return what whoever drives wants now, (D,) in [rad]."""
        if self._handover.driver is Driver.OPERATOR:
            self._safety.new_path()  # an operator is followed as fast as it goes, by no path
            return self._handover.target
        action = self._timeline.sample(now_ns)
        return None if action is None else action.positions

    def _chunk_age_ns(self, now_ns: int) -> int | None:
        observed_ns = self._timeline.observation_time_ns
        if observed_ns is None or self._handover.driver is not Driver.POLICY:
            return None
        return now_ns - observed_ns

    def _ahead(self, now_ns: int) -> NDArray[np.float64] | None:
        """Return the policy's targets after the present one, (n, D) in [rad]."""
        if self._handover.driver is Driver.OPERATOR:
            return None
        return self._timeline.upcoming(now_ns, self._timeline.steps_left(now_ns))[1:]

    def _reason_to_hold(self, target: NDArray[np.float64] | None, fresh: bool) -> HoldReason:
        """Return the weightiest reason to stand still; NONE to go to `target`."""
        if self._latch.latched is not HoldReason.NONE:
            return self._latch.latched
        if not self._enabled:
            return HoldReason.NOT_ENABLED
        if not fresh:
            return HoldReason.PROPRIO_STALE
        if self._handover.changing:
            return HoldReason.HAND_OVER
        if self._handover.driver is Driver.OPERATOR:
            return self._operator_jumps(target)
        if self._fault is not HoldReason.NONE:
            return self._fault
        if target is not None:
            return HoldReason.NONE
        never = self._timeline.observation_time_ns is None
        return HoldReason.NO_CHUNK if never else HoldReason.STARVED

    def _operator_jumps(self, target: NDArray[np.float64] | None) -> HoldReason:
        """Hold as long as the operator's target is too far from where the arm is."""
        assert target is not None and self._measured is not None
        self._speed = 1.0
        reason = self._safety.review(target[None], self._measured).reason
        contract = (CommitReason.START_JUMP, CommitReason.OUT_OF_CONTRACT)
        return HoldReason.START_JUMP if reason in contract else HoldReason.NONE

    def _hold(self, measured: NDArray[np.float64], fresh: bool) -> Limited | None:
        """Brake to standstill; then stand, or go to where the arm was when it stood.

        Following the measured pose from tick to tick instead would let a sagging arm drift.
        """
        at_measured = self._embodiment.hold is HoldBehaviour.MEASURED_POSITION
        if at_measured and fresh and not self._settled and self._safety.standing:
            self._settled = True
            self._safety.settle(measured)
        return self._safety.brake(measured)

    def _command(self, now_ns: int, limited: Limited | None) -> Command | None:
        """Wrap what safety let through, and count what it changed."""
        if limited is None:
            return None
        self._counters.count_limits(limited.limited)
        return Command(now_ns, limited.positions, self._mode(), self._reason, limited.limited)

    def _mode(self) -> ControlMode:
        if self._measured is None and self._reason is HoldReason.PROPRIO_STALE:
            return ControlMode.WAITING
        if self._reason is self._latch.latched and self._reason not in _MODES:
            return ControlMode.FAULT
        return _MODES.get(self._reason, ControlMode.HOLDING)
