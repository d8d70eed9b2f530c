"""Driving with the keys of a terminal. Holding a motion key is the dead-man."""

from collections.abc import Mapping, Sequence

import numpy as np

from moxin_vla.core.embodiment import Embodiment
from moxin_vla.teleop.base import Mode, OperatorEvent, OperatorInput, TeleopError
from moxin_vla.teleop.keys import INTERRUPT, HeldKeys, KeyDecoder
from moxin_vla.teleop.terminal import Terminal

EVENT_KEYS = {
    "space": OperatorEvent.TAKE,
    "b": OperatorEvent.GIVE_BACK,
    "m": OperatorEvent.MODE,
    "+": OperatorEvent.FASTER,
    "=": OperatorEvent.FASTER,
    "-": OperatorEvent.SLOWER,
    "n": OperatorEvent.START,
    "h": OperatorEvent.STOP,
    "j": OperatorEvent.SUCCESS,
    "x": OperatorEvent.FAILURE,
    "z": OperatorEvent.DISCARD,
    INTERRUPT: OperatorEvent.QUIT,
}
_MORE, _LESS = "1234567890", "qwertyuiop"  # joint mode: one column per joint
# End-effector mode: (more, less, index in the twist, meaning).
_TWIST = (
    ("w", "s", 0, "forward / back"),
    ("a", "d", 1, "left / right"),
    ("r", "f", 2, "up / down"),
    ("t", "g", 4, "pitch"),
    ("q", "e", 5, "roll"),
)
_OPEN, _CLOSE = "l", "k"


class EventKeys:
    """The keys that are no motion, for any device beside a terminal.

    Args:
        terminal: Where keys are typed.
    """

    modes: tuple[Mode, ...] = (Mode.JOINT, Mode.END_EFFECTOR)
    has_dead_man, aligns = True, False

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._decoder, self._held = KeyDecoder(), HeldKeys()

    @property
    def told(self) -> bool:
        """True if the terminal tells when keys are released."""
        return self._held.told

    def open(self) -> None:
        """Switch the terminal to character mode."""
        self._terminal.open()

    def close(self) -> None:
        """Switch it back."""
        self._terminal.close()

    def poll(self, mode: Mode, now_ns: int) -> OperatorInput:
        """Return the events of the keys that went down."""
        strokes = self._decoder.decode(self._terminal.read())
        pressed = [stroke.key for stroke in strokes if self._held.put(stroke, now_ns)]
        return OperatorInput(events=tuple(EVENT_KEYS[k] for k in pressed if k in EVENT_KEYS))

    def ready(self, tick_ns: int) -> bool:
        """A key depends on nothing."""
        return True

    def keys(self, mode: Mode) -> Sequence[tuple[str, str]]:
        """Return the keys of the events."""
        shown: dict[OperatorEvent, list[str]] = {}
        for key, event in EVENT_KEYS.items():
            shown.setdefault(event, []).append(key)
        return [(" ".join(names), event.value) for event, names in shown.items()]


class Keyboard(EventKeys):
    """A terminal's keyboard.

    Args:
        embodiment: The robot.
        terminal: Where keys are typed.

    Raises:
        TeleopError: The robot has more joints than there are columns of keys.
    """

    def __init__(self, embodiment: Embodiment, terminal: Terminal) -> None:
        super().__init__(terminal)
        grip = embodiment.gripper.joint
        self._joints = [name for name in embodiment.joint_names if name != grip]
        if len(self._joints) > len(_MORE):
            raise TeleopError(
                f"The keyboard can drive {len(_MORE)} joints beside the gripper. "
                f"'{embodiment.name}' has {len(self._joints)}; choose another device."
            )
        self._pairs: Mapping[Mode, list[tuple[str, str, int]]] = {
            Mode.JOINT: [(_MORE[i], _LESS[i], i) for i in range(len(self._joints))],
            Mode.END_EFFECTOR: [(more, less, i) for more, less, i, _ in _TWIST],
        }

    def poll(self, mode: Mode, now_ns: int) -> OperatorInput:
        """Return rates by the keys that are down, and the events of those that went down."""
        events = super().poll(mode, now_ns).events
        down = self._held.down(now_ns)
        rates = np.zeros(len(self._joints) if mode is Mode.JOINT else 6)
        for more, less, index in self._pairs[mode]:
            rates[index] += (more in down) - (less in down)
        gripper = float(_OPEN in down) - float(_CLOSE in down)
        used = {key for more, less, _ in self._pairs[mode] for key in (more, less)}
        held = bool(down & (used | {_OPEN, _CLOSE}))
        if mode is Mode.JOINT:
            return OperatorInput(held, joints=rates, gripper=gripper, events=events)
        return OperatorInput(held, twist=rates, gripper=gripper, events=events)

    def keys(self, mode: Mode) -> Sequence[tuple[str, str]]:
        """Return the keys that move something in `mode`, then those of the events."""
        if mode is Mode.JOINT:
            motion = [(f"{_MORE[i]} {_LESS[i]}", name) for i, name in enumerate(self._joints)]
        else:
            motion = [(f"{more} {less}", meaning) for more, less, _, meaning in _TWIST]
        return [*motion, (f"{_OPEN} {_CLOSE}", "open / close gripper"), *super().keys(mode)]
