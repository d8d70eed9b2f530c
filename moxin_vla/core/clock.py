"""Injected time. Stamps are integer nanoseconds.

Nothing in the control path asks the operating system.
"""

import time
from typing import Protocol

NS_PER_S = 1_000_000_000


def seconds_to_ns(seconds: float) -> int:
    """Convert [s] to the nearest integer [ns]."""
    return round(seconds * NS_PER_S)


class Clock(Protocol):
    """A source of stamps. May be called from any thread; never blocks, never raises."""

    def now_ns(self) -> int:
        """Return the current time in [ns]."""
        ...


class SteadyClock:
    """The monotonic clock of this machine.

    For watchdogs, which must run on when simulated time stands still.
    """

    def now_ns(self) -> int:
        """Return monotonic time in [ns]; its zero is arbitrary."""
        return time.monotonic_ns()


class FakeClock:
    """A clock that moves only when told: for tests and for the in-process simulator."""

    def __init__(self, now_ns: int = 0) -> None:
        self._now_ns = now_ns

    def now_ns(self) -> int:
        """Return the time last set, in [ns]."""
        return self._now_ns

    def advance_ns(self, step_ns: int) -> None:
        """Move forward by `step_ns`; a negative step moves back, as a reset clock would."""
        self._now_ns += step_ns
