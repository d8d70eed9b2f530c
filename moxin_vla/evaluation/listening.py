"""Does it listen? The same scene with another object named must end with that other object acted
on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from moxin_vla.core.protocols import EpisodeSpec
from moxin_vla.evaluation.rollout import EpisodeResult
from moxin_vla.evaluation.statistics import wilson_interval


@dataclass(frozen=True, slots=True)
class Listening:
    """Paired runs of the scenes that succeeded.

    Attributes:
        followed: Pairs in which the newly named object was acted on: the world judged the second
            run a success, which needs the named cube to reach the goal and no other to be moved.
        acted_on_other: Pairs in which another object was moved or touched.
        trials: All pairs.
        interval: 95 % Wilson interval of followed / trials.
    """

    followed: int
    acted_on_other: int
    trials: int
    interval: tuple[float, float]


def paired_specs(
    results: Sequence[EpisodeResult], other: Callable[[EpisodeSpec], EpisodeSpec]
) -> list[EpisodeSpec]:
    """Return the episodes to pair with the successful ones: same scene, another object named."""
    return [other(result.spec) for result in results if result.success]


def summarise_listening(paired: Sequence[EpisodeResult]) -> Listening:
    """Count the second runs."""
    followed = sum(result.success for result in paired)
    other = sum(bool(result.status.failure) for result in paired)
    return Listening(followed, other, len(paired), wilson_interval(followed, len(paired)))
