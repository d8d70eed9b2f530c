"""What joiners share: the defaults, and how two chunks lie on one another.

planned   0   1   2   3   4   5   6   7         H = 8, observed s = 4 steps before the new one
new                       0   1   2   3   4   5   6   7
                          |-- overlap --|
                              ^ now: d = 1 step of the new chunk has passed
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from moxin_vla.core.types import ActionChunk, Observation

_NOTHING = np.empty((0, 0))


class BaseJoiner(ABC):
    """Implements `core.protocols.Joiner` except for `join`.

    Args:
        unblended: Dims that are never averaged: the gripper, and whatever else is binary.
        resumes: False to trim strictly by the clock.
    """

    name = ""
    waits = False
    every_step = False

    def __init__(self, unblended: Sequence[int] = (), resumes: bool = True) -> None:
        self._unblended, self.resumes = list(unblended), resumes

    def reset(self) -> None:  # noqa: B027
        """Nothing to forget."""

    def ask(self, observation: Observation) -> Observation:
        """Return the observation as it is, without the committed steps."""
        return (
            replace(observation, committed=_NOTHING) if len(observation.committed) else observation
        )

    def answer(self, observation: Observation, chunk: ActionChunk) -> ActionChunk:
        """Return the chunk as it is."""
        return chunk

    @abstractmethod
    def join(self, planned: ActionChunk | None, new: ActionChunk, now_ns: int) -> ActionChunk:
        """Return the plan from now on; see `Joiner.join`."""

    def _mixed(
        self, new: ActionChunk, old: NDArray[np.float64], weights: NDArray[np.float64], delay: int
    ) -> ActionChunk:
        """Average old and new targets row by row; old gripper targets only before step `delay`.

        Args:
            new: The new chunk, (H, D).
            old: Targets of the planned chunk for the first steps of the new one, (L, D).
            weights: Share of the old target in each row, (L,).
            delay: Steps of the new chunk that have passed.
        """
        actions = new.actions.copy()  # (H, D)
        share = weights[:, None]  # (L, 1)
        actions[: len(old)] = share * old + (1.0 - share) * actions[: len(old)]
        for dim in self._unblended:
            actions[:, dim] = new.actions[:, dim]
            held = min(delay, len(old))
            actions[:held, dim] = old[:held, dim]
        return replace(new, actions=actions)


def elapsed_steps(chunk: ActionChunk, now_ns: int) -> int:
    """Count the steps of a chunk that have passed at `now_ns`: the delay d at its commit."""
    return (now_ns - chunk.observation_time_ns) // chunk.step_ns


def overlap(planned: ActionChunk | None, new: ActionChunk) -> NDArray[np.float64]:
    """Return the planned targets for the first steps of the new chunk, (L, D); L may be 0.

    Two observations lie whole control steps apart in a simulator; on a robot the stamp jitters,
    and the step that the new observation falls into counts.
    """
    if planned is None:
        return new.actions[:0]
    first = elapsed_steps(planned, new.observation_time_ns)
    return planned.actions[first : first + new.horizon]
