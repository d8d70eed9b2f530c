"""Temporal ensembling: plan as often as possible, play the average of all plans for a moment.

Source: ACT (arXiv:2304.13705, algorithm 2): w_k = exp(-m k), k = 0 the oldest,
m = 0.01.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from moxin_vla.core.types import ActionChunk
from moxin_vla.runtime.joiners.base import BaseJoiner, elapsed_steps

_DECAY = 0.01  # m of the paper


class TemporalEnsemble(BaseJoiner):
    """Averages every live chunk at every step; the oldest weighs most, almost as the others do.

    Plans at every control step, or, with inference under way, as soon as it has ended.
    """

    name = "temporal_ensemble"
    every_step = True

    def __init__(self, unblended: Sequence[int] = ()) -> None:
        super().__init__(unblended)
        self._live: list[ActionChunk] = []  # oldest first, as the policy gave them

    def reset(self) -> None:
        """Forget every chunk."""
        self._live = []

    def join(self, planned: ActionChunk | None, new: ActionChunk, now_ns: int) -> ActionChunk:
        """Return the new chunk, averaged with what live chunks say of the same moments."""
        if planned is None:
            self._live = []
        kept = [c for c in self._live if elapsed_steps(c, new.observation_time_ns) < c.horizon]
        self._live = [*kept, new]
        total, mass = np.zeros(new.actions.shape), np.zeros((new.horizon, 1))
        for age, chunk in enumerate(self._live):
            weight = np.exp(-_DECAY * age)
            first = elapsed_steps(chunk, new.observation_time_ns)
            rows = chunk.actions[first : first + new.horizon]  # (n, D)
            total[: len(rows)] += weight * rows
            mass[: len(rows)] += weight
        actions = total / mass  # (H, D)
        actions[:, self._unblended] = new.actions[:, self._unblended]
        return replace(new, actions=actions)
