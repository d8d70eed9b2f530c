"""State roll: show the policy the pose that the arm will have when its answer arrives.

Source: VLASH (arXiv:2512.01031), for absolute targets: the pose after the delay is the
last committed target. The paper trains for it and says that without training the gain is small.
"""

from dataclasses import replace

import numpy as np

from moxin_vla.core.types import ActionChunk, Observation
from moxin_vla.runtime.joiners.base import BaseJoiner


class StateRoll(BaseJoiner):
    """Asks from d steps ahead, so the answer begins d steps later; it takes over at once."""

    name = "state_roll"

    def ask(self, observation: Observation) -> Observation:
        """Return the observation with the last committed target as proprio."""
        if not len(observation.committed):
            return observation
        rolled = replace(observation, proprio=observation.committed[-1])
        return super().ask(rolled)

    def answer(self, observation: Observation, chunk: ActionChunk) -> ActionChunk:
        """Return the committed steps, then the answer: d + H steps."""
        if not len(observation.committed):
            return chunk
        return replace(chunk, actions=np.concatenate([observation.committed, chunk.actions]))

    def join(self, planned: ActionChunk | None, new: ActionChunk, now_ns: int) -> ActionChunk:
        """Return the new chunk."""
        return new
