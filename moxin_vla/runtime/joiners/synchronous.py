"""Stop and think: the arm stands still while the policy plans, then plays s steps from the start.

Source: the synchronous inference that chunked policies are published with (ACT, arXiv:2304.13705;
OpenVLA-OFT, arXiv:2502.19645). The reference for quality; pays with a pause of d steps per chunk.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from moxin_vla.core.types import ActionChunk
from moxin_vla.runtime.joiners.base import BaseJoiner, elapsed_steps


class Synchronous(BaseJoiner):
    """Moves the chunk to where it arrives: nothing of it has passed, as the arm has not moved.

    Args:
        execution_horizon: Steps s played from each chunk; then it is used up.
        unblended: Not used: nothing is averaged.
    """

    name = "synchronous"
    waits = True

    def __init__(self, execution_horizon: int, unblended: Sequence[int] = ()) -> None:
        super().__init__(unblended)
        self._execution_horizon = execution_horizon

    def join(self, planned: ActionChunk | None, new: ActionChunk, now_ns: int) -> ActionChunk:
        """Return s steps from `now_ns` on; the d steps before it are over."""
        waited = np.repeat(new.actions[:1], elapsed_steps(new, now_ns), axis=0)  # (d, D)
        played = new.actions[: self._execution_horizon]
        return replace(new, actions=np.concatenate([waited, played]))  # (d + s, D)
