"""What a task family is, and the facts about a running episode that its predicates may read."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class SceneFacts:
    """The privileged state at one control tick; predicates and experts read it, policies never do.

    Attributes:
        cubes: Colour -> centre position (3,), in [m], base frame.
        touched: Colours whose cube touches the gripper now.
        held: Colours whose cube touches both jaws now.
        bowl: Centre of the bowl's floor (3,), in [m].
        joints: Measured joint positions (6,), in [rad].
    """

    cubes: dict[str, NDArray[np.float64]]
    touched: frozenset[str]
    held: frozenset[str]
    bowl: NDArray[np.float64]
    joints: NDArray[np.float64]


class TaskFamily(Protocol):
    """One kind of task. Stateless: called once per control tick."""

    name: str
    templates: tuple[str, ...]  # with {colour}
    horizon: int  # control steps at 20 Hz

    def reached(self, facts: SceneFacts, colour: str) -> bool:
        """Return whether the goal holds at this tick."""
        ...

    def steps_to_hold(self) -> int:
        """Return for how many ticks in a row the goal must hold to count as success."""
        ...

    def forbidden(self, facts: SceneFacts, colour: str) -> str:
        """Return what went irrecoverably wrong at this tick beyond moving another cube, or an
        empty string.
        """
        ...
