"""Stop and think: the arm stands still while the policy plans, then plays s steps from the start.

Source: the synchronous inference that chunked policies are published with (ACT, arXiv:2304.13705;
OpenVLA-OFT, arXiv:2502.19645). The reference for quality; pays with a pause of d steps per chunk.
"""

from collections.abc import Sequence
from dataclasses import replace

from moxin_vla.core.types import ActionChunk
from moxin_vla.runtime.joiners.base import BaseJoiner, elapsed_steps


class Synchronous(BaseJoiner):
    """Cuts the chunk off after s steps; the arm stands still from then until the next one.

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
        end = elapsed_steps(new, now_ns) + self._execution_horizon
        return replace(new, actions=new.actions[:end])  # (d + s, D)
