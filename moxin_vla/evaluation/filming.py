"""Films of failures: played again for the camera, as nobody knows beforehand what will fail."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from moxin_vla.evaluation.config import EvaluationConfig
from moxin_vla.evaluation.rollout import EpisodeResult
from moxin_vla.evaluation.runner import open_rollout


def film_failures(
    config: EvaluationConfig, results: Sequence[EpisodeResult]
) -> list[EpisodeResult]:
    """Play some failed episodes again with the camera on, in process.

    An episode is a function of its spec, so the second run shows what happened in the first. Where
    it does not (the policy is not deterministic), the first result stays without a film.

    Returns:
        The same results in the same order, some of them with frames.
    """
    filmed = list(results)
    chosen = unfilmed_failures(results, config.failure_videos)
    if not chosen:
        return filmed
    with open_rollout(config) as rollout:
        for index in chosen:
            again = rollout.run(results[index].spec, video=True)
            if np.array_equal(again.commands, results[index].commands):
                filmed[index] = replace(results[index], frames=again.frames)
    return filmed


def unfilmed_failures(results: Sequence[EpisodeResult], per_family: int) -> list[int]:
    """Return the indices of the first failures of each family that have no film."""
    chosen, taken = [], Counter()
    for index, result in enumerate(results):
        family = result.spec.family
        if not result.success and not result.frames and taken[family] < per_family:
            chosen.append(index)
            taken[family] += 1
    return chosen
