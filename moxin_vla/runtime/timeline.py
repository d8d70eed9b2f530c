"""The timeline: which action belongs to which moment.

chunk observed at T_0, committed at `now`, with H = 6:

step      0      1      2      3      4      5
      |------|------|------|------|------|------|
     T_0           ^now                         T_0 + H * step_ns
      trimmed: 1   steps left: 5                 starved from here on
"""

import numpy as np

from moxin_vla.core.types import Action, ActionChunk, CommitReason, CommitVerdict


class Timeline:
    """Plays the newest accepted action chunk by the clock; knows nothing of limits or modes.

    Used from one thread. A chunk replaces the plan in a single assignment, so a refused chunk
    leaves no trace.
    """

    def __init__(self, dof: int, step_ns: int) -> None:
        self._dof = dof
        self._step_ns = step_ns
        self._chunk: ActionChunk | None = None

    @property
    def observation_time_ns(self) -> int | None:
        """Capture time of the committed chunk's observation, in [ns]; None without a chunk."""
        return None if self._chunk is None else self._chunk.observation_time_ns

    def reset(self) -> None:
        """Forget the committed chunk: starved until the next one."""
        self._chunk = None

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
        self._chunk = self._join(self._chunk, chunk)
        return CommitVerdict(reason, trimmed_steps=_step_at(chunk, now_ns))

    def sample(self, now_ns: int) -> Action | None:
        """Return the action for the step that contains `now_ns`; None when starved."""
        if self._chunk is None or self.steps_left(now_ns) == 0:
            return None
        return Action(now_ns, self._chunk.actions[_step_at(self._chunk, now_ns)])  # (D,)

    def steps_left(self, now_ns: int) -> int:
        """Count the steps that can still be played, the running one included; 0 when starved."""
        if self._chunk is None or now_ns < self._chunk.observation_time_ns:
            return 0
        return max(0, self._chunk.horizon - _step_at(self._chunk, now_ns))

    def _judge(self, chunk: ActionChunk, now_ns: int) -> CommitReason:
        planned_ns = self.observation_time_ns
        if chunk.actions.shape[1] != self._dof:
            return CommitReason.WRONG_SHAPE
        if chunk.step_ns != self._step_ns:
            return CommitReason.WRONG_STEP
        if not np.all(np.isfinite(chunk.actions)):
            return CommitReason.NOT_FINITE
        if chunk.observation_time_ns > now_ns:
            return CommitReason.FROM_THE_FUTURE
        if planned_ns is not None and chunk.observation_time_ns < planned_ns:
            return CommitReason.OUT_OF_ORDER
        if _step_at(chunk, now_ns) >= chunk.horizon:
            return CommitReason.STALE
        return CommitReason.ACCEPTED

    @staticmethod
    def _join(planned: ActionChunk | None, chunk: ActionChunk) -> ActionChunk:
        """Join the new chunk to the planned one: it takes over at once (blending goes here)."""
        return chunk


def _step_at(chunk: ActionChunk, now_ns: int) -> int:
    return (now_ns - chunk.observation_time_ns) // chunk.step_ns
