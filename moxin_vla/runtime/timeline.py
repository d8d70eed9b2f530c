"""The timeline: which action belongs to which moment.

chunk observed at T_0, committed at `now`, with H = 6:

step      0      1      2      3      4      5
      |------|------|------|------|------|------|
     T_0           ^now                         T_0 + H * step_ns
      trimmed: 1   steps left: 5                 starved from here on

Joiners that resume trim a step only if the arm played something else in its stead. While it stood
still, because there was no plan or it had run out, nothing has passed: the chunk begins where the
arm is, instead of some steps ahead of it.
"""

import copy
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from moxin_vla.core.protocols import Joiner
from moxin_vla.core.types import Action, ActionChunk, CommitReason, CommitVerdict
from moxin_vla.runtime.cutoff import CLOCK_WENT_BACK_NS
from moxin_vla.runtime.joiners.base import elapsed_steps
from moxin_vla.runtime.joiners.naive import Naive


@dataclass(frozen=True)
class Preview:
    """What committing a chunk would play from now on.

    Attributes:
        own: What the chunk itself asks for, (n, D), in [rad].
        joined: What would be played: `own` as its joiner joins it to the plan, (m, D), in [rad].
    """

    own: NDArray[np.float64]
    joined: NDArray[np.float64]


class Timeline:
    """Plays accepted action chunks by the clock; knows nothing of limits or modes.

    Used from one thread. A chunk is joined to the plan in a single assignment, so a refused chunk
    leaves no trace.

    Args:
        dof: Number of joints D.
        step_ns: Control period, in [ns].
        joiner: How a chunk joins the plan. If None it takes over at once, by the clock.
    """

    def __init__(self, dof: int, step_ns: int, joiner: Joiner | None = None) -> None:
        self._dof = dof
        self._step_ns = step_ns
        self._joiner = Naive(resumes=False) if joiner is None else joiner
        self.reset()

    @property
    def observation_time_ns(self) -> int | None:
        """Capture time of the newest committed observation, in [ns]; None without a chunk."""
        return None if self._chunk is None else self._chunk.observation_time_ns

    def reset(self, after_ns: int | None = None) -> None:
        """Forget the plan: starved until the next chunk.

        Args:
            after_ns: Chunks from observations up to this moment, in [ns], belong to another
                session and are refused; None to take any.
        """
        self._chunk: ActionChunk | None = None
        self._after_ns = after_ns
        self._joiner.reset()

    def commit(self, chunk: ActionChunk, now_ns: int) -> CommitVerdict:
        """Splice a chunk into the timeline, trimming the steps whose time has passed.

        A chunk made from the same observation as the committed one replaces it: a restarted
        policy may plan again from the image it finds.

        Args:
            chunk: Prediction made at `chunk.observation_time_ns`; actions of shape (H, D), [rad].
            now_ns: Control clock, in [ns].

        Returns:
            Verdict. If rejected, the timeline is unchanged and `reason` says why.
        """
        reason = self._judge(chunk, now_ns)
        if reason is not CommitReason.ACCEPTED:
            return CommitVerdict(reason)
        trimmed, resumed = self._resumed(chunk, now_ns)
        self._chunk = self._joiner.join(self._chunk, resumed, now_ns)
        return CommitVerdict(reason, trimmed_steps=trimmed)

    def preview(self, chunk: ActionChunk, now_ns: int, first_ns: int) -> Preview | None:
        """Return what would be played if `chunk` were committed now; None if it were refused.

        Changes nothing.

        Args:
            chunk: As for `commit`.
            now_ns: Control clock, in [ns].
            first_ns: The first tick that would play it, in [ns].
        """
        if self._judge(chunk, now_ns) is not CommitReason.ACCEPTED:
            return None
        _, resumed = self._resumed(chunk, now_ns)
        joined = copy.deepcopy(self._joiner).join(self._chunk, resumed, now_ns)
        own = _steps_from(resumed, first_ns, resumed.horizon)
        return Preview(own, _steps_from(joined, first_ns, joined.horizon))

    def sample(self, now_ns: int) -> Action | None:
        """Return the action for the moment `now_ns`, between two steps in proportion; None when
        starved.
        """
        if self.steps_left(now_ns) == 0:
            return None
        return Action(now_ns, self.upcoming(now_ns, 1)[0])  # (D,)

    def upcoming(self, now_ns: int, steps: int) -> NDArray[np.float64]:
        """Return the targets of up to `steps` ticks from `now_ns` on, (n, D); n = 0 if starved.

        On the plan's own grid, as in lockstep, they are its steps bit for bit. Ticks and stamps of
        a real clock lie between: taking the step that has begun would make the arm jerk.
        """
        if self._chunk is None or now_ns < self._chunk.observation_time_ns:
            return np.empty((0, self._dof))
        return _steps_from(self._chunk, now_ns, steps)

    def steps_left(self, now_ns: int) -> int:
        """Count the steps that can still be played, the running one included; 0 when starved."""
        if self._chunk is None or now_ns < self._chunk.observation_time_ns:
            return 0
        return max(0, self._chunk.horizon - elapsed_steps(self._chunk, now_ns))

    def _resumed(self, chunk: ActionChunk, now_ns: int) -> tuple[int, ActionChunk]:
        """Count the steps that have passed, and put those that have not from `now_ns` on.

        For a joiner that resumes, a step has passed only if the arm played another in its stead;
        the chunk is then delayed behind its first `moved` steps.
        """
        elapsed = elapsed_steps(chunk, now_ns)
        if not self._joiner.resumes:
            return elapsed, chunk
        moved = min(elapsed, self.steps_left(chunk.observation_time_ns))
        if moved == elapsed:
            return elapsed, chunk
        still = np.repeat(chunk.actions[moved : moved + 1], elapsed - moved, axis=0)
        parts = (chunk.actions[:moved], still, chunk.actions[moved:])
        return moved, replace(chunk, actions=np.concatenate(parts))  # (H + elapsed - moved, D)

    def _judge(self, chunk: ActionChunk, now_ns: int) -> CommitReason:
        planned_ns = self.observation_time_ns
        if chunk.actions.shape[1] != self._dof:
            return CommitReason.WRONG_SHAPE
        if chunk.step_ns != self._step_ns:
            return CommitReason.WRONG_STEP
        if self._of_another_session(chunk.observation_time_ns):
            return CommitReason.WRONG_SESSION
        if not np.all(np.isfinite(chunk.actions)):
            return CommitReason.NOT_FINITE
        if chunk.observation_time_ns > now_ns:
            return CommitReason.FROM_THE_FUTURE
        if planned_ns is not None and chunk.observation_time_ns < planned_ns:
            return CommitReason.OUT_OF_ORDER
        if elapsed_steps(chunk, now_ns) >= chunk.horizon:
            return CommitReason.STALE
        return CommitReason.ACCEPTED

    def _of_another_session(self, observed_ns: int) -> bool:
        """Return whether a stamp lies before the last reset; far before, the clock went back."""
        after_ns = self._after_ns
        return after_ns is not None and after_ns - CLOCK_WENT_BACK_NS <= observed_ns <= after_ns


def _steps_from(chunk: ActionChunk, time_ns: int, steps: int) -> NDArray[np.float64]:
    """Return up to `steps` targets, one control period apart, from `time_ns` on, (n, D)."""
    first, into_ns = divmod(time_ns - chunk.observation_time_ns, chunk.step_ns)
    rows = chunk.actions[first : first + steps]  # (n, D)
    if into_ns == 0 or len(rows) == 0:
        return rows
    after = chunk.actions[first + 1 : first + 1 + len(rows)]
    after = np.concatenate([after, rows[len(after) :]])  # the last step has none after it
    return rows + into_ns / chunk.step_ns * (after - rows)
