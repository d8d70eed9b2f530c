"""Honest counts: Wilson intervals per family."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from moxin_vla.evaluation.rollout import EpisodeResult

Z_95 = 1.959963984540054


def wilson_interval(successes: int, trials: int, z: float = Z_95) -> tuple[float, float]:
    """Return the Wilson score interval of a success rate (Wilson 1927); (0, 1) without trials."""
    if trials == 0:
        return 0.0, 1.0
    rate, z2 = successes / trials, z * z
    centre = (rate + z2 / (2 * trials)) / (1 + z2 / trials)
    spread = rate * (1 - rate) / trials + z2 / (4 * trials * trials)
    half = z * math.sqrt(spread) / (1 + z2 / trials)
    return max(0.0, centre - half), min(1.0, centre + half)


@dataclass(frozen=True, slots=True)
class Summary:
    """One row of the table.

    Attributes:
        name: Family, or `all`.
        successes: Episodes that succeeded.
        trials: All episodes, those that broke included.
        interval: 95 % Wilson interval of the rate.
        mean_time_s: Mean simulated time to success, in [s]; NaN without a success.
        inference_ms: Median and 99th percentile of the time of a plan, in [ms].
    """

    name: str
    successes: int
    trials: int
    interval: tuple[float, float]
    mean_time_s: float
    inference_ms: tuple[float, float]

    @property
    def rate(self) -> float:
        """Share of successes."""
        return self.successes / self.trials if self.trials else float("nan")


def summarise(name: str, results: Sequence[EpisodeResult]) -> Summary:
    """Summarise some episodes under a name."""
    won = [result for result in results if result.success]
    times = [result.status.step * result.step_ns / 1e9 for result in won]
    plans = [ms for result in results for ms in result.inference_ms] or [float("nan")]
    return Summary(
        name=name,
        successes=len(won),
        trials=len(results),
        interval=wilson_interval(len(won), len(results)),
        mean_time_s=float(np.mean(times)) if times else float("nan"),
        inference_ms=(float(np.percentile(plans, 50)), float(np.percentile(plans, 99))),
    )


def by_family(results: Sequence[EpisodeResult]) -> list[Summary]:
    """Return a row per family in order of appearance, and one for all."""
    families = dict.fromkeys(result.spec.family for result in results)
    rows = [summarise(f, [r for r in results if r.spec.family == f]) for f in families]
    return [*rows, summarise("all", results)]
