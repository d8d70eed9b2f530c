"""Who drives: the policy, or an operator, who beats it. Between the two the arm stands still.

policy ──message──> HAND_OVER, braking ──standing──> operator
operator ──silence or release──> HAND_OVER, braking ──standing──> policy, with a new plan
"""

from enum import Enum

import numpy as np
from numpy.typing import NDArray

from moxin_vla.core.types import frozen_array


class Driver(Enum):
    """Who moves the arm."""

    POLICY = "policy"
    OPERATOR = "operator"


class Handover:
    """Decides who drives; used from the control thread.

    Args:
        dof: Number of joints D.
        timeout_ns: An operator silent for so long gives control back, in [ns].
    """

    def __init__(self, dof: int, timeout_ns: int) -> None:
        self._dof, self._timeout_ns = dof, timeout_ns
        self.reset()

    def reset(self) -> None:
        """Let the policy drive."""
        self.driver = self._wanted = Driver.POLICY
        self._target: NDArray[np.float64] | None = None  # (D,)
        self._heard_ns, self._held = 0, False

    @property
    def changing(self) -> bool:
        """True from a wish to change drivers until the arm stands and the other one drives."""
        return self._wanted is not self.driver

    @property
    def operated(self) -> bool:
        """True while the operator drives or is about to: the policy has no say."""
        return Driver.OPERATOR in (self.driver, self._wanted)

    @property
    def target(self) -> NDArray[np.float64] | None:
        """What the operator wants, (D,) in [rad]."""
        return self._target

    def offer(self, target: NDArray[np.float64], now_ns: int) -> bool:
        """Take an operator's target, (D,) in [rad]; returns False if it is not usable."""
        if np.shape(target) != (self._dof,) or not np.all(np.isfinite(target)):
            return False
        self._target, self._heard_ns = frozen_array(target), now_ns
        self._want(Driver.OPERATOR)
        return True

    def release(self) -> None:
        """Give control back to the policy."""
        self._want(Driver.POLICY)

    def update(self, now_ns: int, standing: bool) -> bool:
        """Go on at a tick; returns True at the moment when the other one begins to drive.

        The arm is held for one tick at least, standing or not.
        """
        if not 0 <= now_ns - self._heard_ns <= self._timeout_ns:
            self._want(Driver.POLICY)
        if not self.changing:
            return False
        if not (standing and self._held):
            self._held = True
            return False
        self.driver = self._wanted
        return True

    def _want(self, driver: Driver) -> None:
        if driver is not self._wanted:
            self._wanted, self._held = driver, False
