"""The latest stamped values of one source."""

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple


class Stamped[T](NamedTuple):
    """A value and its capture time, in [ns]."""

    time_ns: int
    value: T


class StampedBuffer[T]:
    """Keeps the newest few values of one source (a camera, the joint states), oldest first.

    A source sends in order, so a stamp that goes back means that the clock was set back: what
    was kept belongs to another run of the clock and is forgotten. Used from one thread.

    Args:
        depth: How many values to keep.
    """

    def __init__(self, depth: int) -> None:
        self._entries: deque[Stamped[T]] = deque(maxlen=depth)

    def __iter__(self) -> Iterator[Stamped[T]]:
        return iter(self._entries)

    def put(self, time_ns: int, value: T) -> None:
        """Add a value captured at `time_ns`; one with the same stamp is replaced."""
        if self._entries and time_ns < self._entries[-1].time_ns:
            self._entries.clear()
        if self._entries and time_ns == self._entries[-1].time_ns:
            self._entries.pop()
        self._entries.append(Stamped(time_ns, value))

    def reset(self) -> None:
        """Forget everything."""
        self._entries.clear()

    def newest(self) -> Stamped[T] | None:
        """Return the newest entry, or None."""
        return self._entries[-1] if self._entries else None

    def as_of(self, time_ns: int) -> Stamped[T] | None:
        """Return the newest entry captured at or before `time_ns`, or None."""
        return next((e for e in reversed(self._entries) if e.time_ns <= time_ns), None)

    def nearest(self, time_ns: int) -> Stamped[T] | None:
        """Return the entry captured closest to `time_ns`, the newer of two equally close."""
        entries = reversed(self._entries)
        return min(entries, key=lambda e: abs(e.time_ns - time_ns), default=None)
