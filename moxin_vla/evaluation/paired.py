"""Which of two methods is better on the same episodes: a paired test, valid whenever one looks.

Only episodes that one won and the other lost tell them apart. If neither is better, each such
episode is a fair coin. Betting against that with the mixture of all coins multiplies the stake by
E = B(1 + w, 1 + l) * 2^(w + l) after w wins and l losses; the chance that E ever reaches 1/alpha
is at most alpha (Ville's inequality; Shafer 2021, arXiv:1903.06991).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from moxin_vla.evaluation.statistics import wilson_interval

DECISIVE = 20.0  # 1 / 0.05


def e_value(wins: int, losses: int) -> float:
    """Return the evidence against two methods being equally good; 1 without discordant pairs.

    Infinite where a float ends, after a thousand wins without a loss.
    """
    log_beta = math.lgamma(1 + wins) + math.lgamma(1 + losses) - math.lgamma(2 + wins + losses)
    try:
        return math.exp(log_beta + (wins + losses) * math.log(2))
    except OverflowError:
        return math.inf


@dataclass(frozen=True, slots=True)
class PairedTest:
    """Two methods on the same episodes.

    Attributes:
        wins: Episodes that only the first one won.
        losses: Episodes that only the second one won.
        pairs: Episodes played by both.
        decided_after: Pairs after which E first reached `DECISIVE`; 0 if it never did.
    """

    wins: int
    losses: int
    pairs: int
    decided_after: int

    @property
    def evidence(self) -> float:
        """E over all pairs."""
        return e_value(self.wins, self.losses)

    @property
    def verdict(self) -> str:
        """`better` or `worse` once decided, else empty."""
        if not self.decided_after:
            return ""
        return "better" if self.wins > self.losses else "worse"


def paired_test(first: Sequence[bool], second: Sequence[bool]) -> PairedTest:
    """Compare the successes of two methods, episode by episode in the same order."""
    wins = losses = decided_after = 0
    for pair, (one, other) in enumerate(zip(first, second, strict=True), start=1):
        wins, losses = wins + (one and not other), losses + (other and not one)
        if not decided_after and e_value(wins, losses) >= DECISIVE:
            decided_after = pair
    return PairedTest(wins, losses, len(first), decided_after)


def paired_difference(
    first: Sequence[bool], second: Sequence[bool]
) -> tuple[float, tuple[float, float]]:
    """Return how much more often the first one succeeded, and the 95 % interval of it.

    Wilson intervals of both rates, squared and added with their correlation (Newcombe 1998,
    Statistics in Medicine 17:2635, method 8).

    Args:
        first: Successes of a method, episode by episode.
        second: Those of the other one, on the same episodes.

    Returns:
        Difference of the rates and its interval, in [-1, 1].
    """
    pairs = list(zip(first, second, strict=True))
    n = len(pairs)
    both, one = sum(a and b for a, b in pairs), sum(a and not b for a, b in pairs)
    other = sum(b and not a for a, b in pairs)
    neither = n - both - one - other
    p, q = (both + one) / n, (both + other) / n
    p_low, p_high = wilson_interval(both + one, n)
    q_low, q_high = wilson_interval(both + other, n)
    product = (both + one) * (other + neither) * (both + other) * (one + neither)
    phi = (both * neither - one * other) / math.sqrt(product) if product else 0.0

    def length(a: float, b: float) -> float:
        return math.sqrt(max(0.0, a * a - 2 * phi * a * b + b * b))

    return p - q, (p - q - length(p - p_low, q_high - q), p - q + length(p_high - p, q - q_low))
