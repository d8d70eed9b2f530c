"""The control loop: one command per tick, whatever arrives and whatever does not."""

import numpy as np
from numpy.typing import NDArray

from moxin_vla.core.clock import NS_PER_S
from moxin_vla.core.embodiment import Embodiment, HoldBehaviour
from moxin_vla.core.protocols import Joiner, SafetyFilter
from moxin_vla.core.types import (
    Action,
    ActionChunk,
    Command,
    CommitReason,
    CommitVerdict,
    ControlMode,
    HoldReason,
    frozen_array,
)
from moxin_vla.runtime.status import LoopCounters, LoopStatus
from moxin_vla.runtime.timeline import Timeline

_MODES = {
    HoldReason.NONE: ControlMode.RUNNING,
    HoldReason.NO_CHUNK: ControlMode.WAITING,
    HoldReason.STOP_REQUESTED: ControlMode.STOPPED,
}  # every other reason means HOLDING


class ControlLoop:
    """Plays chunks through safety, and stands still whenever it may not or can't play.

    Used from one thread (the control thread); never blocks, raises or asks for the time.
    A simulated embodiment starts enabled, any other needs `enable(True)`.
    """

    def __init__(
        self, embodiment: Embodiment, safety: SafetyFilter, joiner: Joiner | None = None
    ) -> None:
        self._embodiment = embodiment
        self._safety = safety
        self._timeline = Timeline(embodiment.dof, embodiment.step_ns, joiner)
        self._enabled = embodiment.simulated
        self.reset()

    def reset(self, after_ns: int | None = None) -> None:
        """Start afresh: forget chunk, poses and counts, and release a stop. `enable` stays.

        Args:
            after_ns: Chunks observed up to this moment, in [ns], are of another session.
        """
        self._timeline.reset(after_ns)
        self._safety.reset()
        self._counters = LoopCounters()
        self._stopped = False
        self._fault = HoldReason.NONE  # of the last chunk or the clock; an accepted chunk clears
        self._reason = HoldReason.NO_CHUNK
        self._now_ns: int | None = None
        self._measured: NDArray[np.float64] | None = None  # (D,), the last that was fresh
        self._commanded: NDArray[np.float64] | None = None  # (D,), the last that safety passed
        self._held: NDArray[np.float64] | None = None  # (D,), fixed when a hold begins

    def enable(self, enabled: bool) -> None:
        """Allow motion, or hold until it is allowed again."""
        self._enabled = enabled

    def stop(self) -> None:
        """Hold from the next tick on; only `reset` releases it."""
        self._stopped = True
        self._reason = HoldReason.STOP_REQUESTED

    def commit(self, chunk: ActionChunk, now_ns: int) -> CommitVerdict:
        """Offer a chunk.

        One that holds NaN or infinity is refused, and the arm holds until a good chunk arrives:
        a policy that has just failed has no say over the rest of its former plan.

        Args:
            chunk: Absolute joint targets of shape (H, D), in [rad].
            now_ns: Control clock, in [ns].

        Returns:
            Verdict; counted in `status`.
        """
        self._watch_clock(now_ns)
        verdict = self._timeline.commit(chunk, now_ns)
        if verdict.accepted:
            self._fault = HoldReason.NONE
            self._counters.commits += 1
            self._counters.trimmed_steps += verdict.trimmed_steps
        else:
            self._counters.rejected[verdict.reason] += 1
        if verdict.reason is CommitReason.NOT_FINITE:
            self._fault = HoldReason.NOT_FINITE
            self._counters.not_finite += 1
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
        action = self._timeline.sample(now_ns)
        self._reason = self._reason_to_hold(action, fresh)
        self._counters.starved_ticks += self._reason is HoldReason.STARVED
        if self._measured is None:
            return None
        if action is not None and self._reason is HoldReason.NONE:
            self._held = None
            command = self._limit(now_ns, action.positions, self._measured)
            if command is not None:
                return command
            self._counters.not_finite += 1
            self._reason = HoldReason.NOT_FINITE
        return self._limit(now_ns, self._hold_target(self._measured, fresh), self._measured)

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

    def _reason_to_hold(self, action: Action | None, fresh: bool) -> HoldReason:
        """Return the weightiest reason to stand still; NONE to play `action`."""
        if self._stopped:
            return HoldReason.STOP_REQUESTED
        if not self._enabled:
            return HoldReason.NOT_ENABLED
        if not fresh:
            return HoldReason.PROPRIO_STALE
        if self._fault is not HoldReason.NONE:
            return self._fault
        if action is not None:
            return HoldReason.NONE
        never = self._timeline.observation_time_ns is None
        return HoldReason.NO_CHUNK if never else HoldReason.STARVED

    def _hold_target(self, measured: NDArray[np.float64], fresh: bool) -> NDArray[np.float64]:
        """Return where to stand still, (D,) in [rad]; fixed when the hold begins.

        Following the measured pose from tick to tick instead would let a sagging arm drift.
        """
        if self._commanded is None:
            return measured
        if self._held is None:
            at_measured = self._embodiment.hold is HoldBehaviour.MEASURED_POSITION and fresh
            self._held = measured if at_measured else self._commanded
        return self._held

    def _limit(
        self, now_ns: int, target: NDArray[np.float64], measured: NDArray[np.float64]
    ) -> Command | None:
        """Let safety have the last word; None if it refuses the target."""
        safe = self._safety.limit(target, measured)
        if safe is None:
            return None
        self._commanded = safe.positions
        self._counters.position_limited += "position" in safe.limited
        self._counters.velocity_limited += "velocity" in safe.limited
        return Command(now_ns, safe.positions, self._mode(), self._reason, safe.limited)

    def _mode(self) -> ControlMode:
        if self._measured is None and self._reason is HoldReason.PROPRIO_STALE:
            return ControlMode.WAITING
        return _MODES.get(self._reason, ControlMode.HOLDING)
