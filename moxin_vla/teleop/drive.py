"""Whether the operator has control, and what the arm is told while he has.

           take, or dead-man pressed             control_node says: operator drives
  WATCHING ─────────────────────────► TAKING ──────────────────────────────► DRIVING
     ▲                                  │  ▲                                    │
     │   give back, or dead-man         │  └── control_node says otherwise ─────┤
     └── released for too long ─────────┴───────────────────────────────────────┘

While TAKING the target is where the arm is, so nothing jumps when the hand-over is done. While
DRIVING it moves only as long as the dead-man is held.
"""

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from moxin_vla.core.embodiment import Embodiment
from moxin_vla.core.types import frozen_array
from moxin_vla.teleop.base import Mode, OperatorEvent, OperatorInput, TeleopError
from moxin_vla.teleop.mapping import SLOWEST, SPEED_FACTOR, FollowMapping, Mapping, Reach

type Array = NDArray[np.float64]


class Phase(Enum):
    """Who has control, as teleop_node sees it."""

    WATCHING = "watching"
    TAKING = "taking over"
    DRIVING = "driving"


@dataclass(frozen=True, slots=True)
class Arm:
    """What is known about the arm at a tick.

    Attributes:
        measured: Joint positions, shape (D,), in [rad]; None if none are known.
        commanded: The last command, shape (D,), in [rad]; None if none is known.
        operated: Whether control_node says that the operator drives.
    """

    measured: Array | None = None
    commanded: Array | None = None
    operated: bool = False


@dataclass(frozen=True, slots=True)
class DriveStep:
    """What follows from a tick.

    Attributes:
        target: What to tell control_node, shape (D,), in [rad]; None for nothing.
        gave_back: True at the moment when control is given back.
    """

    target: Array | None = None
    gave_back: bool = False


class Drive:
    """Keeps control and target; used from one thread, once per tick.

    Args:
        embodiment: The robot.
        mappings: How rates become targets, by mode; empty for a device that gives targets.
        follow: How absolute targets become targets.
        holding_takes: Whether pressing the dead-man takes over.
        trusts: True if targets of the device start at the arm and are given at every tick, so
            that they are passed on from the first one, while control is still being handed over.
        give_back_after_ticks: Ticks with the dead-man released after which control is given
            back; 0 for never.
        speed: Share of full speed to begin with, up to 1.
        mode: Mode to begin with.

    Raises:
        TeleopError: The speed is out of range, or there is no mapping for the mode.
    """

    def __init__(
        self,
        embodiment: Embodiment,
        mappings: dict[Mode, Mapping],
        follow: FollowMapping,
        holding_takes: bool = True,
        trusts: bool = False,
        give_back_after_ticks: int = 0,
        speed: float = 0.5,
        mode: Mode = Mode.JOINT,
    ) -> None:
        if mappings and mode not in mappings:
            raise TeleopError(f"There is no {mode.value} mode for this robot.")
        if not SLOWEST <= speed <= 1.0:
            raise TeleopError(f"The speed must be in {SLOWEST} .. 1. Got: {speed}")
        self._reach, self._mappings, self._follow = Reach(embodiment), mappings, follow
        self._gripper = embodiment.gripper_index
        self._near_rad = embodiment.safety.start_jump_rad / 2
        self._holding_takes, self._trusts = holding_takes, trusts
        self._patience = give_back_after_ticks
        self.mode, self.speed = mode, speed
        self.phase = Phase.WATCHING
        self.reset()

    def reset(self) -> None:
        """Let go of control, without a word to anybody. Mode and speed stay."""
        self.phase = Phase.WATCHING
        self.target: Array | None = None  # (D,)
        self._released_ticks = 0
        self._was_held = True  # holding on takes over only when it begins
        self._begun: Mapping | None = None

    @property
    def in_control(self) -> bool:
        """True from the wish to take over until control is given back."""
        return self.phase is not Phase.WATCHING

    @property
    def aligning(self) -> bool:
        """True while the arm is on its way to a device that points elsewhere."""
        return self.phase is Phase.DRIVING and not self._follow.aligned

    def take(self) -> None:
        """Take over at the next tick."""
        if not self.in_control:
            self.phase, self._released_ticks = Phase.TAKING, 0

    def update(self, wanted: OperatorInput, arm: Arm) -> DriveStep:
        """Go on by one tick."""
        for event in wanted.events:
            self._on_event(event)
        pressed = wanted.held and not self._was_held
        self._was_held = wanted.held
        if self._holding_takes and pressed and OperatorEvent.GIVE_BACK not in wanted.events:
            self.take()
        if not self.in_control:
            return DriveStep()
        if OperatorEvent.GIVE_BACK in wanted.events or self._let_go(wanted):
            return self.give_back()
        pose = self._pose(arm)
        if pose is None:
            return DriveStep()  # nobody knows where the arm is: say nothing
        self._move(wanted, arm, pose)
        return DriveStep(None if self.target is None else frozen_array(self.target))

    def give_back(self) -> DriveStep:
        """Give control back now."""
        had = self.in_control
        held = self._was_held
        self.reset()
        self._was_held = held
        return DriveStep(gave_back=had)

    def _on_event(self, event: OperatorEvent) -> None:
        if event is OperatorEvent.TAKE:
            self.take()
        elif event is OperatorEvent.FASTER:
            self.speed = min(1.0, self.speed * SPEED_FACTOR)
        elif event is OperatorEvent.SLOWER:
            self.speed = max(SLOWEST, self.speed / SPEED_FACTOR)
        elif event is OperatorEvent.MODE and self._mappings:
            modes = list(self._mappings)
            self.mode = modes[(modes.index(self.mode) + 1) % len(modes)]

    def _let_go(self, wanted: OperatorInput) -> bool:
        """Count how long the dead-man has been released; return whether that is too long."""
        self._released_ticks = 0 if wanted.held else self._released_ticks + 1
        return 0 < self._patience < self._released_ticks

    def _pose(self, arm: Arm) -> Array | None:
        """Return where to start from: the last command, which holds what the gripper squeezes and
        what gravity bends; the measured pose if the arm is elsewhere.
        """
        if arm.measured is None or arm.commanded is None:
            return arm.measured
        away = np.abs(arm.commanded - arm.measured)
        away[self._gripper] = 0.0
        return arm.commanded if np.all(away <= self._near_rad) else arm.measured

    def _move(self, wanted: OperatorInput, arm: Arm, pose: Array) -> None:
        """Bring phase and target to this tick; without the dead-man the target stays."""
        if self._trusts:
            self.phase = Phase.DRIVING if arm.operated else Phase.TAKING
            if wanted.held and wanted.target is not None and _finite(wanted):
                assert arm.measured is not None  # or there would be no pose
                # near the arm: farther ahead it would be refused, and asked for again, for ever
                self.target = self._reach.limit(wanted.target, arm.measured)
            elif self.target is None:
                self.target = self._reach.inside(pose)
            return
        if not arm.operated or self.target is None:
            self.phase, self._begun = Phase.TAKING, None
            self.target = self._reach.inside(pose)
            return
        self.phase = Phase.DRIVING
        if wanted.held and _finite(wanted):
            self.target = self._advance(wanted, self.target, pose)

    def _mapping(self, wanted: OperatorInput) -> Mapping | None:
        """Return what an input is for; None if this robot has nothing for it."""
        if wanted.target is not None:
            return self._follow
        kind = Mode.JOINT if wanted.twist is None else Mode.END_EFFECTOR
        return self._mappings.get(kind)

    def _advance(self, wanted: OperatorInput, target: Array, pose: Array) -> Array:
        limited = self._reach.limit(target, pose)
        mapping = self._mapping(wanted)
        if mapping is None:
            return limited
        if mapping is not self._begun:
            mapping.begin(limited)
            self._begun = mapping
        return self._reach.limit(mapping.advance(limited, wanted, self.speed), pose)


def _finite(wanted: OperatorInput) -> bool:
    """Return whether all that an input says are numbers."""
    said = (wanted.joints, wanted.twist, wanted.target, wanted.gripper)
    return all(np.all(np.isfinite(part)) for part in said if part is not None)
