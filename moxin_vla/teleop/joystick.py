"""A gamepad plugged into this machine, read from Linux' joystick device without a library.

One event is 8 bytes: time [ms] u32, value i16, type u8 (1 button, 2 axis, 0x80 added at first),
number u8. https://www.kernel.org/doc/html/latest/input/joydev/joystick-api.html
"""

import os
import struct
from collections.abc import Sequence
from pathlib import Path

from moxin_vla.core.embodiment import Embodiment
from moxin_vla.core.errors import listed
from moxin_vla.teleop.base import Mode, OperatorInput, TeleopError
from moxin_vla.teleop.gamepad import Pad, PadOptions

DEFAULT_PATH = "/dev/input/js0"
_EVENT = struct.Struct("<IhBB")
_BUTTON, _AXIS, _INITIAL = 1, 2, 0x80
_FULL = 32767.0


class Joystick:
    """A gamepad's device file.

    Args:
        embodiment: The robot.
        options: How the pad is held.
        path: Device file.
    """

    modes: tuple[Mode, ...] = (Mode.END_EFFECTOR, Mode.JOINT)
    has_dead_man, aligns = True, False

    def __init__(
        self, embodiment: Embodiment, options: PadOptions, path: str = DEFAULT_PATH
    ) -> None:
        self._pad = Pad(embodiment, options, expires=False)
        self._path = path
        self._file: int | None = None
        self._axes, self._buttons = [0.0] * 8, [0] * 11
        self._rest = b""

    def open(self) -> None:
        """Open the device.

        Raises:
            TeleopError: There is none, or it may not be read.
        """
        try:
            self._file = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            there = sorted(str(path) for path in Path("/dev/input").glob("js*"))
            raise TeleopError(
                f"The gamepad '{self._path}' can't be opened: {error.strerror}. "
                f"Gamepads here: {listed(there)}"
            ) from None

    def close(self) -> None:
        """Close the device."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def poll(self, mode: Mode, now_ns: int) -> OperatorInput:
        """Read what happened and return what it means.

        Raises:
            TeleopError: The gamepad was unplugged.
        """
        for value, kind, number in self._events():
            if kind & ~_INITIAL == _AXIS and number < len(self._axes):
                self._axes[number] = -value / _FULL  # as joy_node: left and up are positive
            elif kind & ~_INITIAL == _BUTTON and number < len(self._buttons):
                self._buttons[number] = value
            self._pad.put(self._axes, self._buttons, now_ns)
        return self._pad.read(mode, now_ns)

    def ready(self, tick_ns: int) -> bool:
        """Never waits for the operator."""
        return True

    def keys(self, mode: Mode) -> Sequence[tuple[str, str]]:
        """Return what moves what."""
        return self._pad.keys(mode)

    def _events(self) -> list[tuple[int, int, int]]:
        """Return (value, kind, number) of every event since the last call."""
        if self._file is None:
            raise TeleopError("The gamepad is not open.")
        data = self._rest
        while True:
            try:
                piece = os.read(self._file, _EVENT.size * 64)
            except BlockingIOError:
                break
            except OSError as error:
                raise TeleopError(
                    f"The gamepad '{self._path}' can't be read any more: {error.strerror}"
                ) from None
            if not piece:
                raise TeleopError(f"The gamepad '{self._path}' was closed.")
            data += piece
        whole = len(data) - len(data) % _EVENT.size
        self._rest = data[whole:]
        return [
            (value, kind, number) for _, value, kind, number in _EVENT.iter_unpack(data[:whole])
        ]
