"""Honest counts: Wilson intervals per family."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from moxin_vla.evaluation.rollout import EpisodeResult
from moxin_vla.runtime.status import COUNTERS

_WIRE_COUNTERS = ("messages refused", "chunks waited for in vain")
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


def percent(share: float) -> str:
    """Write a share in percent without rounding a failure away: 299 of 300 is not 100 %."""
    return f"{100 * share:.0f} %" if share in (0, 1) else f"{100 * share:.1f} %"


def percent_range(interval: tuple[float, float]) -> str:
    """Write an interval of shares in percent."""
    low, high = (100 * bound for bound in interval)
    return f"{low:.1f} to {high:.1f} %"


def summarise(name: str, results: Sequence[EpisodeResult]) -> Summary:
    """Summarise some episodes under a name."""
    won = [result for result in results if result.success]
    times = [result.sim_s for result in won]
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


def interventions(results: Sequence[EpisodeResult]) -> dict[str, int]:
    """Add up the control loop's counters over episodes, refused chunks by reason.

    In process the loop's own status is there, over ROS what control_node made of it.
    """
    total: Counter[str] = Counter()
    for result in results:
        refused = result.loop.get("rejected", {})
        flat = result.loop | {f"rejected {reason}": count for reason, count in refused.items()}
        total.update({name: count for name, count in flat.items() if _is_counter(name)})
    return dict(total)


def _is_counter(name: str) -> bool:
    return name in (*COUNTERS, *_WIRE_COUNTERS) or name.startswith("rejected ")
