"""What the sticks and buttons of a gamepad mean, wherever they are read from.

Axes and buttons are numbered as `joy_node` numbers those of an Xbox pad: left and up are +1,
a trigger is 1 at rest and -1 when pressed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from moxin_vla.core.clock import seconds_to_ns
from moxin_vla.core.embodiment import Embodiment
from moxin_vla.teleop.base import Mode, OperatorEvent, OperatorInput, TeleopError

LEFT_X, LEFT_Y, LEFT_TRIGGER, RIGHT_X, RIGHT_Y, RIGHT_TRIGGER, CROSS_X, CROSS_Y = range(8)
_AXES = {LEFT_X: "left stick ↔", LEFT_Y: "left stick ↕", RIGHT_X: "right stick ↔"} | {
    RIGHT_Y: "right stick ↕",
    CROSS_Y: "cross ↕",
    CROSS_X: "cross ↔",
}
_JOINT_AXES = (LEFT_X, LEFT_Y, RIGHT_Y, CROSS_Y, RIGHT_X, CROSS_X)  # arm joints in order
# End-effector mode: axis -> (index in the twist, meaning).
_TWIST_AXES = {
    LEFT_Y: (0, "forward / back"),
    LEFT_X: (1, "left / right"),
    RIGHT_Y: (2, "up / down"),
    CROSS_Y: (4, "pitch"),
    RIGHT_X: (5, "roll"),
}
_BUTTONS = {
    0: ("A", OperatorEvent.SUCCESS),
    1: ("B", OperatorEvent.FAILURE),
    2: ("X", OperatorEvent.STOP),
    3: ("Y", OperatorEvent.MODE),
    5: ("RB", OperatorEvent.GIVE_BACK),
    6: ("back", OperatorEvent.DISCARD),
    7: ("start", OperatorEvent.START),
    9: ("left stick", OperatorEvent.SLOWER),
    10: ("right stick", OperatorEvent.FASTER),
}
_RESTING = 0.9


@dataclass(frozen=True, slots=True)
class PadOptions:
    """Options of a gamepad.

    Attributes:
        dead_man: Number of the button to hold while driving; LB by default.
        dead_zone: Deflections below this count as none, 0..1.
        silent_after_s: A pad that says nothing for so long counts as released.
    """

    dead_man: int = 4
    dead_zone: float = 0.12
    silent_after_s: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.dead_zone < 1 or self.dead_man < 0 or not self.silent_after_s > 0:
            raise TeleopError(
                "dead_zone must be in 0 .. 1, dead_man not negative and silent_after_s positive. "
                f"Got: {self.dead_zone}, {self.dead_man}, {self.silent_after_s}"
            )


class Pad:
    """Keeps the last state of a gamepad and says what it means.

    Args:
        embodiment: The robot.
        options: How it is held.
        expires: Whether silence counts as released; not for a device file, which only speaks when
            something changes, and fails when it is unplugged.
    """

    def __init__(self, embodiment: Embodiment, options: PadOptions, expires: bool) -> None:
        self._joints = [n for n in embodiment.joint_names if n != embodiment.gripper.joint]
        self._options = options
        self._silent_ns = seconds_to_ns(options.silent_after_s) if expires else None
        self._axes: Sequence[float] = ()
        self._buttons: Sequence[int] = ()
        self._heard_ns: int | None = None
        self._rested: set[int] = set()
        self._events: list[OperatorEvent] = []

    def put(self, axes: Sequence[float], buttons: Sequence[int], now_ns: int) -> None:
        """Take the pad's state: axes in -1..1, buttons 0 or 1."""
        for number, (_, event) in _BUTTONS.items():
            if _pressed(buttons, number) and not _pressed(self._buttons, number):
                self._events.append(event)
        self._axes, self._buttons, self._heard_ns = tuple(axes), tuple(buttons), now_ns
        for trigger in (LEFT_TRIGGER, RIGHT_TRIGGER):
            if trigger < len(axes) and axes[trigger] >= _RESTING:
                self._rested.add(trigger)

    def read(self, mode: Mode, now_ns: int) -> OperatorInput:
        """Return what the state means now, and the buttons pressed since the last call."""
        events, self._events = tuple(self._events), []
        held = self._awake(now_ns) and _pressed(self._buttons, self._options.dead_man)
        gripper = self._trigger(LEFT_TRIGGER) - self._trigger(RIGHT_TRIGGER)
        if mode is Mode.JOINT:
            joints = np.zeros(len(self._joints))
            for index, axis in enumerate(_JOINT_AXES[: len(joints)]):
                joints[index] = self._deflection(axis)
            return OperatorInput(held, joints=joints, gripper=gripper, events=events)
        twist = np.zeros(6)
        for axis, (index, _) in _TWIST_AXES.items():
            twist[index] = self._deflection(axis)
        return OperatorInput(held, twist=twist, gripper=gripper, events=events)

    def keys(self, mode: Mode) -> Sequence[tuple[str, str]]:
        """Return what moves what."""
        motion = [(_AXES[axis], meaning) for axis, (_, meaning) in _TWIST_AXES.items()]
        if mode is Mode.JOINT:
            pairs = zip(_JOINT_AXES, self._joints, strict=False)
            motion = [(_AXES[axis], name) for axis, name in pairs]
        buttons = [(name, event.value) for name, event in _BUTTONS.values()]
        dead_man = "LB" if self._options.dead_man == 4 else f"button {self._options.dead_man}"
        return [
            (f"hold {dead_man}", "dead-man: take over and drive"),
            *motion,
            ("triggers", "open (left) / close (right) gripper"),
            *buttons,
        ]

    def _awake(self, now_ns: int) -> bool:
        if self._heard_ns is None:
            return False
        return self._silent_ns is None or 0 <= now_ns - self._heard_ns <= self._silent_ns

    def _deflection(self, axis: int) -> float:
        """Return an axis in -1..1, with a dead zone and no jump at its edge."""
        value = float(np.clip(self._axes[axis], -1.0, 1.0)) if axis < len(self._axes) else 0.0
        zone = self._options.dead_zone
        return float(np.sign(value) * max(0.0, abs(value) - zone) / (1.0 - zone))

    def _trigger(self, axis: int) -> float:
        """Return how far a trigger is pressed, 0..1.

        Drivers say 0, half pressed, until it has moved once; so it counts from its first rest on.
        """
        if axis not in self._rested or axis >= len(self._axes):
            return 0.0
        pressed = (1.0 - float(np.clip(self._axes[axis], -1.0, 1.0))) / 2.0
        return pressed if pressed > self._options.dead_zone else 0.0


def _pressed(buttons: Sequence[int], number: int) -> bool:
    return number < len(buttons) and bool(buttons[number])
