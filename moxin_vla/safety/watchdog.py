"""Staleness: data that is too old must not move the arm."""

from moxin_vla.core.clock import seconds_to_ns


class StalenessWatchdog:
    """Judges a stamp against the clock; keeps no state, so it can't be left in a wrong one.

    Args:
        max_age_s: Oldest data that may be acted on, in [s].
    """

    def __init__(self, max_age_s: float) -> None:
        self._max_age_ns = seconds_to_ns(max_age_s)

    def fresh(self, time_ns: int, now_ns: int) -> bool:
        """Return True if data captured at `time_ns` may be acted on at `now_ns`.

        A stamp later than the clock is as suspect as an old one: stamp and clock disagree.
        Clocks that differ by less than the allowed age are put up with.
        """
        return abs(now_ns - time_ns) <= self._max_age_ns
