"""Joint states by name: a driver may send its joints in any order, and more than we need."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from moxin_vla.core.errors import ObservationError, listed
from moxin_vla.core.types import frozen_array


class JointLookup:
    """Puts joint states into embodiment order.

    Args:
        joints: Joint names in the order of proprio, length D.
    """

    def __init__(self, joints: Sequence[str]) -> None:
        self._joints = tuple(joints)
        self._seen: tuple[str, ...] | None = None
        self._order = np.empty(0, dtype=np.intp)

    def proprio(self, names: Sequence[str], positions: ArrayLike) -> NDArray[np.float64]:
        """Return the measured joint positions in embodiment order, shape (D,), in [rad].

        Args:
            names: Joint names as the driver sends them: any order, extra ones ignored.
            positions: One position per name, in [rad].

        Raises:
            ObservationError: A joint is missing, named twice or not finite, or the lengths differ.
        """
        values = np.asarray(positions, dtype=np.float64)
        if values.shape != (len(names),):
            raise ObservationError(
                f"Joint state has {len(names)} names but positions of shape {values.shape}."
            )
        if self._seen != tuple(names):
            self._order = self._find(names)
            self._seen = tuple(names)
        ordered = frozen_array(values[self._order])  # (D,)
        if not np.all(np.isfinite(ordered)):
            bad = [n for n, v in zip(self._joints, ordered, strict=True) if not np.isfinite(v)]
            raise ObservationError(f"Joint state is not finite for: {listed(bad)}")
        return ordered

    def _find(self, names: Sequence[str]) -> NDArray[np.intp]:
        found = list(names)
        if missing := [name for name in self._joints if name not in found]:
            raise ObservationError(
                f"Joint state lacks: {listed(missing)}\n"
                f"  found in the message:       {listed(found)}\n"
                f"  expected by the embodiment: {listed(self._joints)}"
            )
        if repeated := [name for name in self._joints if found.count(name) > 1]:
            raise ObservationError(f"Joint state names a joint twice: {listed(repeated)}")
        return np.array([found.index(name) for name in self._joints], dtype=np.intp)
