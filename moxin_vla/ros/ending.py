"""Ending in one's own time: signals are noted, so nothing is torn in the middle."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # the last: the terminal was closed


@contextlib.contextmanager
def noted_signals() -> Iterator[threading.Event]:
    """Note what tells a process to end instead of raising; main thread only.

    Yields:
        Set once SIGINT, SIGTERM or SIGHUP has come; more of them change nothing.
    """
    told = threading.Event()

    def note(number: int, frame: FrameType | None) -> None:
        told.set()

    former = {number: signal.signal(number, note) for number in _SIGNALS}
    try:
        yield told
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
