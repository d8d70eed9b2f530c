"""Watchdogs: data that is too old, or that only pretends to be new, must not move the arm."""

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


class SilenceWatchdog:
    """Counts the ticks of a steady timer since something was heard.

    It finds what stamps can't show: a source that sends nothing while its last stamp lies ahead of
    the clock. Ticks at which the control clock stands still don't count, because a simulator that
    is paused is not silent.

    Args:
        ticks: Silent ticks that are put up with.
    """

    def __init__(self, ticks: int) -> None:
        self._allowed = ticks
        self.reset()

    def reset(self) -> None:
        """Begin anew, as if something had just been heard."""
        self._silent, self._now_ns = 0, None

    def heard(self) -> None:
        """Note that something arrived."""
        self._silent = 0

    def tick(self, now_ns: int) -> bool:
        """Take one tick at `now_ns` of the control clock; return True while all is well."""
        self._silent += now_ns != self._now_ns
        self._now_ns = now_ns
        return self._silent <= self._allowed
