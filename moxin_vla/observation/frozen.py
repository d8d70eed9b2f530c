"""Cameras that hang: a driver that goes on sending its last picture under new stamps."""

import zlib

import numpy as np
from numpy.typing import NDArray

from moxin_vla.core.clock import seconds_to_ns


class FrozenCamera:
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
        self._frozen = False

    def frozen(
        self, time_ns: int, pixels: NDArray[np.uint8], proprio: NDArray[np.float64]
    ) -> bool:
        """Say whether the camera is frozen.

        Args:
            time_ns: Stamp of the image, in [ns]; the same stamp again is the same image.
            pixels: The image, uint8 (height, width, 3).
            proprio: Joint positions measured at about that time, shape (D,), in [rad].
        """
        if time_ns == self._newest_ns and self._proprio is not None:
            return self._frozen
        seen = zlib.crc32(np.ascontiguousarray(pixels))
        if seen != self._print or self._proprio is None or time_ns < self._newest_ns:
            self._print, self._since_ns, self._proprio = seen, time_ns, np.array(proprio)
        self._newest_ns = time_ns
        moved = float(np.max(np.abs(proprio - self._proprio)))
        self._frozen = time_ns - self._since_ns > self._max_frozen_ns and moved > self._moved_rad
        return self._frozen
