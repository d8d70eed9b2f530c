"""From an operator's rates or targets to the next joint target; one class per way of driving."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from moxin_vla.core.clock import NS_PER_S
from moxin_vla.core.embodiment import Embodiment
from moxin_vla.teleop.base import OperatorInput, TeleopError

type Array = NDArray[np.float64]

SLOWEST, SPEED_FACTOR = 0.05, 1.25
_LEAD = 0.9  # share of what control_node puts up with
_ALIGNED_RAD = 0.05


@dataclass(frozen=True, slots=True)
class FullSpeed:
    """How fast things move at speed 1; joints never faster than the embodiment allows.

    Attributes:
        joint_rad_s: Arm joints.
        gripper_rad_s: The gripper.
        linear_m_s: The end effector.
        angular_rad_s: The end effector.
        align_rad_s: Joints on their way to a leader that is somewhere else.
    """

    joint_rad_s: float = 1.5
    gripper_rad_s: float = 3.0
    linear_m_s: float = 0.25
    angular_rad_s: float = 1.5
    align_rad_s: float = 0.5

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not getattr(self, name) > 0:
                raise TeleopError(f"{name} must be positive. Got: {getattr(self, name)}")


class Mapping(Protocol):
    """Turns input into the next target. `begin` before the first `advance` and after each jump."""

    def begin(self, pose: Array) -> None:
        """Start from a pose (D,), in [rad]."""
        ...

    def advance(self, target: Array, wanted: OperatorInput, speed: float) -> Array:
        """Return the next target (D,), in [rad], one control period after `target`.

        Only called while the dead-man is held.
        """
        ...


class Reach:
    """Keeps targets where control_node will follow: inside the limits, and near the arm.

    A target far ahead of the arm is refused there (start jump, out of contract), and what lies
    ahead is how far the arm still goes after the dead-man is released.
    """

    def __init__(self, embodiment: Embodiment) -> None:
        self._lower, self._upper = embodiment.position_lower, embodiment.position_upper
        rules, period_s = embodiment.safety, embodiment.step_ns / NS_PER_S
        contract = embodiment.velocity_limit * period_s * rules.refuse_factor
        self._lead = _LEAD * np.minimum(contract, rules.start_jump_rad)  # (D,)
        self._lead[embodiment.gripper_index] = np.inf  # open and closed are far apart by design

    def limit(self, target: Array, pose: Array) -> Array:
        """Return the reachable target (D,) nearest to `target` for an arm at `pose`, (D,)."""
        inside = np.clip(target, self._lower, self._upper)
        return np.clip(inside, pose - self._lead, pose + self._lead)

    def inside(self, target: Array) -> Array:
        """Return the target (D,) inside the position limits that is nearest to `target`."""
        return np.clip(target, self._lower, self._upper)


class JointMapping:
    """Rates of joints: the target moves along each joint, the gripper between open and closed."""

    def __init__(self, embodiment: Embodiment, full: FullSpeed) -> None:
        self._grip = GripperMapping(embodiment, full)
        self._arm = np.array([name != embodiment.gripper.joint for name in embodiment.joint_names])
        rate = np.minimum(full.joint_rad_s, embodiment.velocity_limit)[self._arm]
        self._step = rate * embodiment.step_ns / NS_PER_S  # (D-1,)

    def begin(self, pose: Array) -> None:
        """Nothing to remember: every step starts from the last target."""

    def advance(self, target: Array, wanted: OperatorInput, speed: float) -> Array:
        """Move each joint by its rate."""
        following = self._grip.advance(target, wanted.gripper, speed)
        if wanted.joints is not None:
            following[self._arm] += np.clip(wanted.joints, -1.0, 1.0) * speed * self._step
        return following


class GripperMapping:
    """Moves the gripper's target between closed and open."""

    def __init__(self, embodiment: Embodiment, full: FullSpeed) -> None:
        gripper, self._index = embodiment.gripper, embodiment.gripper_index
        rate = min(full.gripper_rad_s, float(embodiment.velocity_limit[self._index]))
        self._step = rate * embodiment.step_ns / NS_PER_S
        self._opens = 1.0 if gripper.open >= gripper.closed else -1.0
        self._range = sorted((gripper.open, gripper.closed))

    def advance(self, target: Array, rate: float, speed: float) -> Array:
        """Return a copy of `target` (D,) with the gripper moved by `rate`, -1..1."""
        following = target.copy()
        if rate != 0.0:
            step = float(np.clip(rate, -1.0, 1.0)) * self._opens * speed * self._step
            low, high = self._range
            low, high = min(low, target[self._index]), max(high, target[self._index])
            following[self._index] = np.clip(target[self._index] + step, low, high)
        return following


class FollowMapping:
    """Absolute targets: a slow way to where the device points, from then on wherever it goes.

    Args:
        embodiment: The robot.
        full: Speeds.
        aligns: False if the device's targets are near the arm from the start.
    """

    def __init__(self, embodiment: Embodiment, full: FullSpeed, aligns: bool) -> None:
        step = np.minimum(full.align_rad_s, embodiment.velocity_limit)
        self._step = step * embodiment.step_ns / NS_PER_S  # (D,)
        self._aligns = aligns
        self._aligned = not aligns

    @property
    def aligned(self) -> bool:
        """True once the arm has come to where the device points."""
        return self._aligned

    def begin(self, pose: Array) -> None:
        """Align anew."""
        self._aligned = not self._aligns

    def advance(self, target: Array, wanted: OperatorInput, speed: float) -> Array:
        """Go to the device's target, at full speed once aligned."""
        if wanted.target is None:
            return target
        if self._aligned:
            return wanted.target.copy()
        way = wanted.target - target
        self._aligned = bool(np.all(np.abs(way) <= _ALIGNED_RAD))
        return target + np.clip(way, -self._step, self._step)
