"""Where the next command may be so that the arm can still stop: exact in discrete time.

A control tick sets one number per joint, its next position; velocity, acceleration and jerk are
differences of the positions sent so far. All is counted in periods here (v = dp, a = dv, j = da),
so every limit has the unit [rad].

          sent          next    stop of n = 4 ticks
    ---o-----o-----o  -  x  -  o - o - o - o = o = o ...    v = a = 0 from here on
       P2    P1    P0

For every n in a ladder, the stop from the state behind x that spends the least squared jerk is
linear in that state (a minimum-norm solution of two equations: v = 0 and a = 0 after n ticks). So
each limit at each tick of the stop is a pair of linear inequalities in x, and the x from which a
stop of n ticks keeps every limit form an interval in closed form. A time-optimal stop (ruckig) is
shorter, by a third at most for a stop from constant speed, but promises nothing at the ticks.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

type Array = NDArray[np.float64]

_EVERY_UP_TO, _GROWTH = 12, 1.4  # ladder: every length at first, then in steps of 40 %
_LONGEST = 400
_SHRINK = 1.0 - 1e-9  # keeps rounding inside the limits
_FLAT = 1e-12  # coefficient below which a row does not depend on x


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits per control period, each of shape (D,), in [rad]."""

    lower: Array
    upper: Array
    velocity: Array
    acceleration: Array
    jerk: Array


@dataclass(frozen=True, slots=True)
class Reach:
    """Next positions that keep every limit and leave a stop, per stop length: (N, D), in [rad].

    Where `lower > upper` there is none for that length.
    """

    lower: Array
    upper: Array

    def allows(self, position: Array) -> bool:
        """Return whether a next position, (D,), is within reach of every joint."""
        return bool(np.all(np.any((position >= self.lower) & (position <= self.upper), axis=0)))

    def box(self) -> tuple[Array, Array]:
        """Return the smallest and the largest next position, (D,) each; NaN where none is."""
        some = self.lower <= self.upper
        lower = np.where(some, self.lower, np.inf).min(axis=0)
        upper = np.where(some, self.upper, -np.inf).max(axis=0)
        none = ~some.any(axis=0)
        return np.where(none, np.nan, lower), np.where(none, np.nan, upper)


class Braking:
    """Stops of many lengths from any state; keeps no state of its own.

    Args:
        bounds: Limits of D joints, per control period.
    """

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._lengths = _ladder(bounds)
        stops = [_stop(n) for n in self._lengths]
        self._positions = [position for *_, position in stops]  # (n, 2) each
        self._starts = np.cumsum([0, *(4 * n for n in self._lengths[:-1])])
        kinds = [np.repeat(np.arange(4), n) for n in self._lengths]
        self._kind = np.concatenate(kinds)  # (R,)
        rows = np.concatenate([np.concatenate(stop) for stop in stops])  # (R, 2)
        self._slope = rows.sum(axis=1) + (self._kind == 3)  # (R,) of the next step y
        self._lag = rows[:, 1]  # (R,) of the present velocity
        self._flat = np.abs(self._slope) < _FLAT
        self._divisor = np.where(self._flat, 1.0, self._slope)[:, None]
        speed, force, jerk = bounds.velocity, bounds.acceleration, bounds.jerk
        self._size = np.stack([jerk, force, speed])[np.minimum(self._kind, 2)] * _SHRINK  # (R, D)
        self._is_position = (self._kind == 3)[:, None]
        ticks = [np.tile(np.arange(1, n + 1), 4) for n in self._lengths]
        self._tick = np.concatenate(ticks)  # (R,) after the next step
        self._places = np.flatnonzero(self._kind == 3)  # (P,) rows that are positions
        self._most = np.where(self._is_position, np.inf, self._size)  # (R, D), of other rows
        self._place_starts = np.cumsum([0, *self._lengths[:-1]])
        spans = list(zip(self._starts, [*self._starts[1:], len(rows)], strict=True))
        usual = min(len(spans), _EVERY_UP_TO) - 1  # a stop of this length will mostly do
        self._usual_first = [*spans[usual:], *reversed(spans[:usual])]

    @property
    def longest(self) -> int:
        """Ticks of the longest stop in the ladder."""
        return self._lengths[-1]

    def reach(self, sent: Array, plan: Array | None = None) -> Reach:
        """Return which next positions keep every limit and can be stopped from.

        Args:
            sent: The last three positions, newest first, shape (3, D), in [rad].
            plan: If given, the stop must not go beyond it either: the targets of the ticks to
                come, the next first, shape (n, D) with n >= 1, inside the position limits.
        """
        bounds, at, speed = self._bounds, sent[0], sent[0] - sent[1]
        lower, upper = bounds.lower - at, bounds.upper - at  # (D,)
        if plan is not None:
            rows = np.minimum(self._tick, len(plan) - 1)
            lower = np.minimum(np.minimum.accumulate(plan, axis=0) - at, 0.0)[rows]  # (R, D)
            upper = np.maximum(np.maximum.accumulate(plan, axis=0) - at, 0.0)[rows]
        low = np.where(self._is_position, lower, -self._size)  # (R, D)
        high = np.where(self._is_position, upper, self._size)
        offset = self._lag[:, None] * speed
        first, second = (low + offset) / self._divisor, (high + offset) / self._divisor
        flat = self._flat[:, None]
        kept = (low + offset <= 0.0) & (high + offset >= 0.0)
        least = np.where(flat, np.where(kept, -np.inf, np.inf), np.minimum(first, second))
        most = np.where(flat, np.where(kept, np.inf, -np.inf), np.maximum(first, second))
        now_low, now_high = self._now(sent)
        least = np.maximum(np.maximum.reduceat(least, self._starts), now_low)  # (N, D)
        most = np.minimum(np.minimum.reduceat(most, self._starts), now_high)
        return Reach(at + least, at + most)

    def behind(self, sent: Array, position: Array) -> Array | None:
        """Return the shortest stop that all joints can make together, (n, D) in [rad].

        Args:
            sent: The last three positions before it, newest first, shape (3, D), in [rad].
            position: The next position, shape (D,), in [rad].

        Returns:
            None if the position breaks a limit, or if there is no such stop: each joint by itself
            may still have one.
        """
        step, speed = position - sent[0], sent[0] - sent[1]
        now_low, now_high = self._now(sent)
        if not ((step >= now_low) & (step <= now_high)).all():
            return None
        rows = self._slope[:, None] * step - self._lag[:, None] * speed  # (R, D)
        kept = (np.abs(rows) <= self._most).all(axis=1)
        places = sent[0] + rows[self._places]  # (P, D)
        inside = ((places >= self._bounds.lower) & (places <= self._bounds.upper)).all(axis=1)
        kept = np.logical_and.reduceat(kept, self._starts)  # (N,)
        kept &= np.logical_and.reduceat(inside, self._place_starts)
        first = int(kept.argmax())
        if not kept[first]:
            return None
        path = position + self._positions[first] @ np.stack([step, step - speed])
        path[-1] = path[-2]  # v = 0 over the last period
        return np.minimum(np.maximum(path, self._bounds.lower), self._bounds.upper)

    def holds(self, sent: Array, steps: Array, judged: NDArray[np.bool_]) -> bool:
        """Say whether a plan keeps every limit at every step and can be stopped from each.

        Args:
            sent: The last three positions before it, newest first, shape (3, D), in [rad].
            steps: The plan, shape (n, D), in [rad].
            judged: Which joints matter, shape (D,).
        """
        bounds = self._bounds
        history = np.concatenate([sent[::-1], steps])
        speed = np.diff(history, axis=0)[1:]  # (n + 1, D)
        force = np.diff(history, n=2, axis=0)
        kept = np.less_equal(np.abs(speed[1:]), bounds.velocity * _SHRINK)  # (n, D)
        kept &= np.abs(force[1:]) <= bounds.acceleration * _SHRINK
        kept &= np.abs(np.diff(force, axis=0)) <= bounds.jerk * _SHRINK
        if not np.all(kept[:, judged]):
            return False
        left = np.tile(judged, (len(steps), 1))  # (n, D), where no stop is known yet
        states = np.stack([steps, speed[1:], force[1:]])  # (3, n, D)
        for first, last in self._usual_first:
            left = left & ~self._stops(slice(first, last), *states)
            at = np.any(left, axis=1)
            if not np.any(at):
                return True
            left, states = left[at], states[:, at]
        return False

    def _stops(self, rows: slice, at: Array, speed: Array, force: Array) -> NDArray[np.bool_]:
        """Say which states, (n, D) each, a stop of one length keeps every limit from, (n, D)."""
        bounds = self._bounds
        beta = self._lag[rows, None, None]
        alpha = (self._slope - self._lag - (self._kind == 3))[rows, None, None]
        moves = alpha * speed + beta * force  # (R, n, D)
        where = at + moves
        inside = (where >= bounds.lower) & (where <= bounds.upper)
        within = np.abs(moves) <= self._size[rows, None]
        return np.all(np.where(self._is_position[rows, None], inside, within), axis=0)

    def stop(self, sent: Array, position: Array, lengths: NDArray[np.intp]) -> Array:
        """Return the stops behind `position`, (longest, D) in [rad]; at rest from there on.

        Args:
            sent: The last three positions before it, newest first, shape (3, D), in [rad].
            position: The next position, shape (D,), in [rad].
            lengths: Index of each joint's stop in the ladder, shape (D,).
        """
        step = position - sent[0]
        state = np.stack([step, step - (sent[0] - sent[1])])  # (2, D)
        path = np.empty((self.longest, len(position)))
        for joint, index in enumerate(lengths):
            shape = self._positions[index]
            moved = position[joint] + shape @ state[:, joint]
            path[: len(moved), joint] = moved
            path[len(moved) - 1 :, joint] = moved[-2]  # v = 0 over the last period
        return np.clip(path, self._bounds.lower, self._bounds.upper)

    def move(self, start: Array, end: Array) -> Array:
        """Return a way from rest to rest that keeps every limit, (n, D) in [rad].

        Minimum jerk (Flash and Hogan, 1985), stretched until the differences at the ticks fit.
        """
        bounds, way = self._bounds, end - start
        sizes = (bounds.velocity, bounds.acceleration, bounds.jerk)
        ticks = 1
        while True:
            share = np.arange(1, ticks + 1) / ticks
            shape = share**3 * (10.0 + share * (6.0 * share - 15.0))
            padded = np.concatenate([np.zeros(3), shape, np.ones(3)])
            peaks = [np.abs(np.diff(padded, n)).max() for n in (1, 2, 3)]
            if all(
                np.all(np.abs(way) * p <= s * _SHRINK) for p, s in zip(peaks, sizes, strict=True)
            ):
                path = start + shape[:, None] * way
                return np.clip(path, np.minimum(start, end), np.maximum(start, end))
            ticks = math.ceil(ticks * _GROWTH)

    def _now(self, sent: Array) -> tuple[Array, Array]:
        """Return the step that the limits allow at this very tick, (D,) each, in [rad]."""
        bounds = self._bounds
        speed = sent[0] - sent[1]
        force = speed - (sent[1] - sent[2])
        low, high = bounds.lower - sent[0], bounds.upper - sent[0]
        sizes = (bounds.velocity, bounds.acceleration, bounds.jerk)
        for centre, size in zip((0.0, speed, speed + force), sizes, strict=True):
            low = np.maximum(low, centre - size * _SHRINK)
            high = np.minimum(high, centre + size * _SHRINK)
        return low, high


def _ladder(bounds: Bounds) -> list[int]:
    """Return the stop lengths to try, in ticks; the last suffices from any speed."""
    slowest = 2.0 * bounds.velocity / bounds.acceleration
    slowest = slowest + 4.0 * np.sqrt(bounds.velocity / bounds.jerk)
    last = int(np.clip(np.ceil(np.max(slowest)) + 4, 4, _LONGEST))
    lengths = list(range(2, min(last, _EVERY_UP_TO) + 1))
    while lengths[-1] < last:
        lengths.append(min(last, int(np.ceil(lengths[-1] * _GROWTH))))
    return lengths


def _stop(n: int) -> tuple[Array, Array, Array, Array]:
    """Return jerk, acceleration, velocity and position of a stop of n ticks, each (n, 2).

    Linear in (velocity, acceleration) at its start; positions count from there.
    """
    conditions = np.stack([np.ones(n), np.arange(n, 0, -1.0)])  # (2, n): sum of a and of v
    start = np.array([[0.0, 1.0], [1.0, float(n)]])  # what they must cancel
    jerk: Array = -np.linalg.pinv(conditions).astype(np.float64) @ start
    acceleration = _clean(np.array([0.0, 1.0]) + np.cumsum(jerk, axis=0))
    velocity = _clean(np.array([1.0, 0.0]) + np.cumsum(acceleration, axis=0))
    return jerk, acceleration, velocity, np.cumsum(velocity, axis=0)


def _clean(rows: Array) -> Array:
    """Make the zeros of a stop exact, so that an arm at rest is commanded where it is."""
    return np.where(np.abs(rows) < _FLAT, 0.0, rows)
