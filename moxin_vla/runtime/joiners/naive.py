"""Take over at once: the new chunk replaces the plan as soon as it arrives.

Source: asynchronous inference of LeRobot with the `latest_only` aggregate (SmolVLA,
arXiv:2506.01844). The baseline that every other joiner has to beat.
"""

from moxin_vla.core.types import ActionChunk
from moxin_vla.runtime.joiners.base import BaseJoiner


class Naive(BaseJoiner):
    """Plays the newest chunk, trimmed; old and new may differ where they meet."""

    name = "naive"

    def join(self, planned: ActionChunk | None, new: ActionChunk, now_ns: int) -> ActionChunk:
        """Return the new chunk."""
        return new
