"""Watchdogs: data that is too old, or that only pretends to be new, must not move the arm."""

import zlib

import numpy as np
from numpy.typing import NDArray

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


class FrozenImageWatchdog:
    """Finds a camera whose stamps go on while its pixels do not.

    A camera at rest may see the same for long, a simulated one exactly the same; so it is frozen
    only if the joints have moved meanwhile. Used from one thread.

    Args:
        max_frozen_s: How long the same pixels are put up with, in [s].
        moved_rad: Motion of any joint that a camera must have seen, in [rad].
    """

    def __init__(self, max_frozen_s: float, moved_rad: float = 0.05) -> None:
        self._max_frozen_ns, self._moved_rad = seconds_to_ns(max_frozen_s), moved_rad
        self.reset()

    def reset(self) -> None:
        """Forget what was seen."""
        self._print: int | None = None
        self._since_ns = self._newest_ns = 0
        self._proprio: NDArray[np.float64] | None = None

    def frozen(
        self, time_ns: int, pixels: NDArray[np.uint8], proprio: NDArray[np.float64]
    ) -> bool:
        """Say whether the camera is frozen.

        Args:
            time_ns: Stamp of the image, in [ns]; the same stamp again is the same image.
            pixels: The image, uint8 (height, width, 3).
            proprio: Joint positions measured at about that time, shape (D,), in [rad].
        """
        seen = zlib.crc32(np.ascontiguousarray(pixels))
        if seen != self._print or self._proprio is None or time_ns < self._newest_ns:
            self._print, self._since_ns, self._proprio = seen, time_ns, np.array(proprio)
        self._newest_ns = time_ns
        moved = float(np.max(np.abs(proprio - self._proprio)))
        return time_ns - self._since_ns > self._max_frozen_ns and moved > self._moved_rad
