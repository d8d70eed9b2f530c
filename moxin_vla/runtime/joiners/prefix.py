"""Action prefix: tell the policy which steps are committed, so that it plans their continuation.

Source: training-time action conditioning (arXiv:2512.05964), for a parallel-decoding L1 head: the
first d action slots carry the committed actions, and the model answers for the rest. Needs a
policy that was trained so; any other one may ignore what it is told.
"""

from dataclasses import replace

from moxin_vla.core.types import ActionChunk, Observation
from moxin_vla.runtime.joiners.base import BaseJoiner


class Prefix(BaseJoiner):
    """Shows the policy the committed steps and keeps them; its answer counts from step d on."""

    name = "prefix"

    def ask(self, observation: Observation) -> Observation:
        """Return the observation with its committed steps."""
        return observation

    def answer(self, observation: Observation, chunk: ActionChunk) -> ActionChunk:
        """Return the committed steps, then the policy's own from step d on."""
        known = min(len(observation.committed), chunk.horizon)
        actions = chunk.actions.copy()
        actions[:known] = observation.committed[:known]
        return replace(chunk, actions=actions)

    def join(self, planned: ActionChunk | None, new: ActionChunk, now_ns: int) -> ActionChunk:
        """Return the new chunk: up to step d it is the old one."""
        return new
