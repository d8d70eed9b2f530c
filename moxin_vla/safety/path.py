"""Following a path more slowly where it can't be followed on time: its shape stays.

    knots   A ------- B ------- C        one control period each, as planned
    ticks   A -- o -- o -- B - o         as played where the limits allow no more

Clipping each joint by itself would bend the way between the knots, which a policy may have chosen
around something.
"""

import math

import numpy as np
from numpy.typing import NDArray

type Array = NDArray[np.float64]

_TOUCH = 1e-12  # [rad]; a point on the edge of the box counts as inside


class Path:
    """The part of a plan that was not reached yet. Copies share nothing that changes.

    Args:
        judged: Which joints decide how far it goes, shape (D,).
    """

    def __init__(self, judged: NDArray[np.bool_]) -> None:
        self._judged = judged
        self.clear()

    @property
    def begun(self) -> bool:
        """False until `start` was called."""
        return bool(self._knots)

    @property
    def idle(self) -> bool:
        """True if nothing of the plan is left behind: the next knot is the next target."""
        return len(self._knots) <= 1 and self._done == 0.0

    def clear(self) -> None:
        """Forget the path."""
        self._knots: tuple[Array, ...] = ()
        self._done = 0.0  # share of the way from the first knot to the second, 0..1

    def start(self, at: Array) -> None:
        """Begin a path at a position, (D,) in [rad]."""
        self._knots, self._done = (at,), 0.0

    def copy(self) -> "Path":
        """Return a path that goes on by itself."""
        other = Path(self._judged)
        other._knots, other._done = self._knots, self._done
        return other

    def advance(self, knot: Array, lower: Array, upper: Array, speed: float) -> Array | None:
        """Take one more knot and go along the path as far as a box and a speed allow.

        Args:
            knot: The target of this tick, shape (D,), in [rad].
            lower: Smallest positions that may be commanded now, shape (D,), in [rad].
            upper: Largest ones.
            speed: Knots per tick, 0..1.

        Returns:
            Point on the path, (D,); None if no point ahead is in the box: then the path is left,
            and has to begin anew from where the arm gets to.
        """
        self._knots = (*self._knots, knot)
        end = self._done + speed
        for i in reversed(range(math.ceil(end))):
            first, last = max(self._done - i, 0.0), min(end - i, 1.0)
            share = self._furthest(self._knots[i], self._knots[i + 1], first, last, lower, upper)
            if share is not None:
                return self._go(i, share)
        self.clear()
        return None

    def _go(self, i: int, share: float) -> Array:
        here, there = self._knots[i], self._knots[i + 1]
        if share == 1.0:
            self._knots, self._done = self._knots[i + 1 :], 0.0
            return there
        self._knots, self._done = self._knots[i:], share
        return here + share * (there - here)

    def _furthest(
        self, a: Array, b: Array, first: float, last: float, lower: Array, upper: Array
    ) -> float | None:
        """Return the largest share in first..last at which a..b is in the box."""
        a, b = a[self._judged], b[self._judged]
        lower, upper = lower[self._judged] - _TOUCH, upper[self._judged] + _TOUCH
        if last == 1.0 and np.all((b >= lower) & (b <= upper)):
            return 1.0
        way = b - a
        still = np.abs(way) <= _TOUCH
        if not np.all((a >= lower) & (a <= upper) | ~still):  # NaN: nowhere
            return None
        divisor = np.where(still, 1.0, way)
        one, other = (lower - a) / divisor, (upper - a) / divisor
        enter = np.max(np.where(still, -np.inf, np.minimum(one, other)), initial=first)
        leave = np.min(np.where(still, np.inf, np.maximum(one, other)), initial=last)
        return float(leave) if leave >= enter else None
