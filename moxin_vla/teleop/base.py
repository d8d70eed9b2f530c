"""What an operator does at one control tick, and what a device that says so must promise."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from moxin_vla.core.errors import MoxinVlaError


class TeleopError(MoxinVlaError):
    """A device can't be opened, read or used with this robot."""


class Mode(Enum):
    """What the axes of a device move."""

    JOINT = "joint"
    END_EFFECTOR = "ee"


class OperatorEvent(Enum):
    """What happens once, at the moment a key or button goes down."""

    TAKE = "take over"
    GIVE_BACK = "give back"
    MODE = "change between joint and ee mode"
    FASTER = "faster"
    SLOWER = "slower"
    START = "start an episode"
    STOP = "stop the episode"
    SUCCESS = "mark success"
    FAILURE = "mark failure"
    DISCARD = "discard the episode"
    QUIT = "quit"


@dataclass(frozen=True, slots=True)
class OperatorInput:
    """What the operator wants at one tick.

    Either rates (`joints` or `twist`, with `gripper`), each a share of full speed in -1..1, or an
    absolute `target`.

    Attributes:
        held: The dead-man: False means that nothing may move.
        joints: Rates of the arm's joints in embodiment order, gripper left out, shape (D-1,).
        twist: Linear rates (x, y, z) in the base frame, then angular ones about the axes of the
            end effector, shape (6,).
        gripper: Rate of the gripper; 1 opens it, -1 closes it.
        target: Joint positions to go to, shape (D,), in [rad]; beats the rates.
        events: What happened since the last tick, in order.
    """

    held: bool = False
    joints: NDArray[np.float64] | None = None
    twist: NDArray[np.float64] | None = None
    gripper: float = 0.0
    target: NDArray[np.float64] | None = None
    events: tuple[OperatorEvent, ...] = ()

    def with_events(self, more: tuple[OperatorEvent, ...]) -> "OperatorInput":
        """Return the same input with more events at its end."""
        return replace(self, events=self.events + more) if more else self


class TeleopDevice(Protocol):
    """Something an operator drives with. One thread opens, polls and closes it.

    Attributes:
        modes: What its axes can move, the usual one first; empty if it gives targets instead.
        has_dead_man: True if `held` is only set while somebody holds on, so that holding on may
            take over. Without one, only the event TAKE does.
        aligns: True if its targets may be far from the arm at first, so that the arm must go to
            them slowly before it follows.
    """

    modes: tuple[Mode, ...]
    has_dead_man: bool
    aligns: bool

    def open(self) -> None:
        """Start to read.

        Raises:
            TeleopError: It is not there or not usable.
        """
        ...

    def close(self) -> None:
        """Let go of it. Idempotent; also after a failed `open`."""
        ...

    def poll(self, mode: Mode, now_ns: int) -> OperatorInput:
        """Return what the operator does now; never blocks for longer than one reading takes.

        Args:
            mode: What its axes should move.
            now_ns: A clock that runs on, in [ns]: a steady one, or in lockstep the tick.

        Raises:
            TeleopError: It can't be read any more. May be called again.
        """
        ...

    def ready(self, tick_ns: int) -> bool:
        """In lockstep: say whether it has heard all that its answer for `tick_ns` depends on."""
        ...

    def keys(self, mode: Mode) -> Sequence[tuple[str, str]]:
        """Return (key, meaning) pairs for the screen."""
        ...
