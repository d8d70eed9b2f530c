"""Disagreement-gated switch: how far old and new plan are apart decides how they are joined.

Source: the temporal consistency of consecutive chunks as a failure signal (STAC,
arXiv:2410.04640), used here to choose between taking over, blending and finishing the
old plan.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from moxin_vla.core.types import ActionChunk
from moxin_vla.runtime.joiners.base import BaseJoiner, elapsed_steps, overlap
from moxin_vla.runtime.joiners.decay_blend import decay_weights

# Distances of moxin-nano's plans at d = 0 on 40 pick scenes that no table counts (seeds 5000 on):
# median 0.3, 75th percentile 1, 90th 4, 95th 12.
SCALE_RAD = 0.05
AGREE, DISAGREE = 0.5, 8.0


class Gated(BaseJoiner):
    """Takes over where plans agree, blends where they nearly do, finishes the old one otherwise.

    The old plan is finished once in a row only: a policy that has changed its mind for good gets
    its way with the next chunk.

    Args:
        unblended: Dims that are never averaged; they have no say in the disagreement either.
        agree: Mean square distance of the targets over the overlap, in units of `SCALE_RAD`^2 and
            summed over the joints, up to which the new plan takes over at once.
        disagree: Distance from which on the old plan is finished.
    """

    name = "gated"

    def __init__(
        self, unblended: Sequence[int] = (), agree: float = AGREE, disagree: float = DISAGREE
    ) -> None:
        super().__init__(unblended)
        self._agree, self._disagree = agree, disagree
        self.reset()

    def reset(self) -> None:
        """Forget what was finished."""
        self._finishing = False
        self.finished = 0  # times the old plan was finished

    def join(self, planned: ActionChunk | None, new: ActionChunk, now_ns: int) -> ActionChunk:
        """Return the new chunk, a blend, or the old chunk continued by the new one."""
        old, delay = overlap(planned, new), elapsed_steps(new, now_ns)
        distance = self.distance(old[delay:], new.actions[delay : len(old)])
        finish = distance > self._disagree and not self._finishing
        self._finishing = finish
        if distance <= self._agree:
            return new
        if not finish:
            return self._mixed(new, old, decay_weights(delay, len(old)), delay)
        self.finished += 1
        return replace(new, actions=np.concatenate([old, new.actions[len(old) :]]))

    def distance(self, old: NDArray[np.float64], new: NDArray[np.float64]) -> float:
        """Return the disagreement of two plans for the same steps, (L, D) each; 0 without any."""
        if not len(old):
            return 0.0
        apart = np.delete(old - new, self._unblended, axis=1) / SCALE_RAD
        return float(np.mean(np.sum(apart**2, axis=1)))
