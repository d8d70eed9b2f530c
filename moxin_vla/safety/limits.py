"""Joint limits: what no command may exceed, whatever the policy asks for."""

import numpy as np
from numpy.typing import NDArray

from moxin_vla.core.clock import NS_PER_S
from moxin_vla.core.embodiment import Embodiment
from moxin_vla.core.protocols import Limited
from moxin_vla.core.types import frozen_array
from moxin_vla.safety.watchdog import StalenessWatchdog


class JointLimits:
    """Position limits, then velocity limits; implements `core.protocols.SafetyFilter`.

    Steps are measured from the last command, not from the measured pose: an arm lags behind its
    commands, so anchoring every tick at the measurement would slow it down and let it drift.
    Only the first command after a reset starts from the measured pose. Called once per tick.
    """

    def __init__(self, embodiment: Embodiment) -> None:
        self._dof = embodiment.dof
        self._lower = embodiment.position_lower  # (D,)
        self._upper = embodiment.position_upper  # (D,)
        self._max_step = embodiment.velocity_limit * (embodiment.step_ns / NS_PER_S)  # (D,)
        self._proprio = StalenessWatchdog(embodiment.watchdog.proprio_max_age_s)
        self._last: NDArray[np.float64] | None = None  # (D,)

    def reset(self) -> None:
        """Forget the last command: the next one starts from the measured pose."""
        self._last = None

    def fresh(self, proprio_time_ns: int, now_ns: int) -> bool:
        """Return True if proprio captured at `proprio_time_ns` may still be acted on."""
        return self._proprio.fresh(proprio_time_ns, now_ns)

    def limit(self, target: NDArray[np.float64], measured: NDArray[np.float64]) -> Limited | None:
        """Bring a target inside every limit.

        A measured pose outside the position limits is an exception to the velocity limit: the
        first command then starts from the nearest pose inside.

        Args:
            target: Joint position targets, shape (D,), in [rad].
            measured: Measured joint positions, shape (D,), in [rad].

        Returns:
            Positions to command, or None if `target`, or the pose to start from, is not finite
            or not of shape (D,).
        """
        anchor = measured if self._last is None else self._last
        if not (self._usable(target) and self._usable(anchor)):
            return None
        inside = np.clip(target, self._lower, self._upper)
        anchor = np.clip(anchor, self._lower, self._upper)
        step = np.clip(inside - anchor, -self._max_step, self._max_step)
        slow = np.abs(inside - anchor) > self._max_step
        # Where no limit acts the target passes bit for bit; anchor + step would round it.
        positions = np.clip(np.where(slow, anchor + step, inside), self._lower, self._upper)
        self._last = frozen_array(positions)
        return Limited(self._last, _names(position=inside != target, velocity=slow))

    def _usable(self, positions: NDArray[np.float64]) -> bool:
        return np.shape(positions) == (self._dof,) and bool(np.all(np.isfinite(positions)))


def _names(**acted: NDArray[np.bool_]) -> tuple[str, ...]:
    return tuple(name for name, where in acted.items() if np.any(where))
