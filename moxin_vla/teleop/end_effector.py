"""End-effector mode: the operator moves the gripper, inverse kinematics moves the joints."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from moxin_vla.core.clock import NS_PER_S
from moxin_vla.core.embodiment import Embodiment
from moxin_vla.teleop.base import OperatorInput
from moxin_vla.teleop.mapping import FullSpeed, GripperMapping

type Array = NDArray[np.float64]

_KEPT_M = 0.002  # how far a wanted position may lie from what was reached


@dataclass(frozen=True, slots=True)
class Pose:
    """Where the end effector is: position (3,) in [m], rotation (3, 3) into the base frame."""

    position: Array
    rotation: Array


class InverseKinematics(Protocol):
    """Kinematics of one robot; used from one thread."""

    def forward(self, joints: Array) -> Pose:
        """Return the end effector's pose for joints (D,), in [rad]."""
        ...

    def solve(self, joints: Array, goal: Pose) -> Array:
        """Return joints (D,) near `joints` that come nearest to `goal`, inside the limits.

        Position counts more than rotation; the gripper's joint stays as it is.
        """
        ...


class EndEffectorMapping:
    """Rates of the end effector.

    The wanted position is kept from step to step, so that what inverse kinematics misses in one
    does not add up to a drift; the rotation begins anew at each step, because an arm with fewer
    than six joints can't keep every rotation and must not try to get a lost one back later.

    Args:
        embodiment: The robot.
        full: Speeds.
        kinematics: Of that robot, in embodiment order.
    """

    def __init__(
        self, embodiment: Embodiment, full: FullSpeed, kinematics: InverseKinematics
    ) -> None:
        self._grip = GripperMapping(embodiment, full)
        self._kinematics = kinematics
        period_s = embodiment.step_ns / NS_PER_S
        self._step_m, self._turn_rad = full.linear_m_s * period_s, full.angular_rad_s * period_s
        most = np.minimum(full.joint_rad_s, embodiment.velocity_limit)
        self._most = most * period_s  # (D,)
        self._wanted: Array | None = None  # (3,), [m]

    def begin(self, pose: Array) -> None:
        """Start from where the end effector is at `pose`."""
        self._wanted = self._kinematics.forward(pose).position

    def advance(self, target: Array, wanted: OperatorInput, speed: float) -> Array:
        """Move the end effector by its rates, and the joints no faster than they may."""
        following = self._grip.advance(target, wanted.gripper, speed)
        if wanted.twist is None or not np.any(wanted.twist):
            return following
        twist = np.clip(wanted.twist, -1.0, 1.0) * speed
        now = self._kinematics.forward(target)
        position = self._kept(now.position) + twist[:3] * self._step_m
        rotation = now.rotation @ rotation_about(twist[3:] * self._turn_rad)
        reached = self._kinematics.solve(following, Pose(position, rotation))
        way = reached - following
        most = float(np.max(np.abs(way) / self._most))
        following = following + way / max(1.0, most)
        self._remember(following, position)
        return following

    def _kept(self, reached: Array) -> Array:
        """Return the position wanted so far; where the arm is if the target was moved since."""
        if self._wanted is None or np.linalg.norm(self._wanted - reached) > 2 * _KEPT_M:
            return reached
        return self._wanted

    def _remember(self, joints: Array, position: Array) -> None:
        """Keep the wanted position, but near what was reached: nothing winds up at a limit."""
        reached = self._kinematics.forward(joints).position
        missed = position - reached
        far = float(np.linalg.norm(missed)) / _KEPT_M
        self._wanted = reached + missed / max(1.0, far)


def rotation_about(vector: Array) -> Array:
    """Return the rotation (3, 3) about `vector` (3,) by its length in [rad] (Rodrigues)."""
    angle = float(np.linalg.norm(vector))
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * cross @ cross
