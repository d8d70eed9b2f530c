"""Bursts: now and then the arm is sent somewhere else for a moment, and the gripper may open or
close.

Noise injection into demonstrations (DART, Laskey et al. 2017) in a form that reaches the states a
drifting policy reaches: near the cube but beside it, too low, closed on nothing.
"""

import numpy as np
from numpy.typing import NDArray

from moxin_sim.experts.field import CLOSED_RAD, OPEN_RAD
from moxin_sim.robots import so101_kinematics

_CHANCE_PER_STEP = 0.04
_STEPS = (3, 10)
_REACH_M = (0.05, 0.05, 0.035)
_FLOOR_M = 0.012
_SLIP_CHANCE = 0.25
_SMALL_SHARE = (
    0.5  # half of the bursts are a centimetre or so: the last centimetre is where grasps fail
)


class Bursts:
    """Draws bursts for one episode.

    Args:
        rng: Source of the draws; its seed makes the episode repeatable.
        pitch: Approach pitch of the arm, in [rad].
    """

    def __init__(self, rng: np.random.Generator, pitch: float) -> None:
        self._rng, self._pitch = rng, pitch
        self._left = 0

    def disturb(
        self, action: NDArray[np.float64], joints: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the action, or in a burst a step (6,) towards somewhere near; in [rad]."""
        if self._left == 0 and self._rng.random() < _CHANCE_PER_STEP:
            self._begin(joints)
        if self._left == 0:
            return action
        self._left -= 1
        point, _ = so101_kinematics.forward(joints)
        step = np.clip(self._goal - point, -0.012, 0.012)
        arm, reachable = so101_kinematics.inverse(point + step, self._pitch)
        if not reachable:
            return action
        return np.append(arm, action[5] if self._jaw is None else self._jaw)

    def _begin(self, joints: NDArray[np.float64]) -> None:
        self._left = int(self._rng.integers(*_STEPS))
        reach = np.array(_REACH_M) * (0.3 if self._rng.random() < _SMALL_SHARE else 1.0)
        point, _ = so101_kinematics.forward(joints)
        self._goal = point + self._rng.uniform(-reach, reach)
        self._goal[2] = max(self._goal[2], _FLOOR_M)
        self._jaw = (
            self._rng.choice([OPEN_RAD, CLOSED_RAD]) if self._rng.random() < _SLIP_CHANCE else None
        )
