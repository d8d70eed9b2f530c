"""Prefix hold and decay: keep the old plan at the seam and fade over to the new one.

Source: the soft mask of Real-Time Chunking (arXiv:2506.07339; `get_prefix_weights` in its authors'
real-time-chunking-kinetix/src/model.py). RTC guides a flow model's sampling with it; an L1 head
has no sampling to guide, so the weights are used on the output.
"""

import numpy as np
from numpy.typing import NDArray

from moxin_vla.core.types import ActionChunk
from moxin_vla.runtime.joiners.base import BaseJoiner, elapsed_steps, overlap


def decay_weights(delay: int, length: int) -> NDArray[np.float64]:
    """Return the share of the old plan at each step of the new chunk, shape (length,).

    1 before step d, then c (e^c - 1) / (e - 1) with c falling linearly to 0 at the end of the
    overlap.

    Args:
        delay: Inference delay d, in control steps.
        length: Steps that old and new plan have in common; H - s in RTC.
    """
    steps = np.arange(length)
    c = (length - steps) / max(1, length - delay + 1)
    return np.where(steps < delay, 1.0, c * np.expm1(c) / np.expm1(1.0))


class DecayBlend(BaseJoiner):
    """Averages old and new targets with weights that decay over the overlap."""

    name = "decay_blend"

    def join(self, planned: ActionChunk | None, new: ActionChunk, now_ns: int) -> ActionChunk:
        """Return the new chunk, bent towards the old one over their overlap."""
        old, delay = overlap(planned, new), elapsed_steps(new, now_ns)
        return self._mixed(new, old, decay_weights(delay, len(old)), delay)
