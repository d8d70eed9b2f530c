"""The terminal as a source of keys: bytes as they are typed, and the former settings at the end.

Keys come without Enter and without echo; Ctrl-C still interrupts. Terminals that know the keyboard
protocol of kitty (kitty, foot, WezTerm, Ghostty, Alacritty, ...) also tell when a key is released:
they are asked, and those that don't answer go on as ever.
https://sw.kovidgoyal.net/kitty/keyboard-protocol/
"""

import contextlib
import os
import select
import termios
import tty

from moxin_vla.teleop.base import TeleopError

_READ_BYTES = 4096
# progressive enhancements: 1 escape codes are unambiguous, 2 event types, 8 every key is one
ASK_FOR_RELEASES, STOP_RELEASES = b"\x1b[>11u\x1b[?u", b"\x1b[<u"


class Terminal:
    """A terminal in character mode, between `open` and `close`.

    Args:
        fd: File descriptor of the terminal.
        releases: Ask it to tell when keys are released.
    """

    def __init__(self, fd: int = 0, releases: bool = True) -> None:
        self._fd, self._releases = fd, releases
        self._former: list | None = None

    def open(self) -> None:
        """Switch to character mode.

        Raises:
            TeleopError: It is no terminal.
        """
        if not os.isatty(self._fd):
            raise TeleopError(
                "The keyboard needs a terminal, and standard input is none. "
                "Run `moxin-vla teleop` in one, or choose another device."
            )
        self._former = termios.tcgetattr(self._fd)
        tty.setcbreak(self._fd, termios.TCSANOW)
        if self._releases:
            self._write(ASK_FOR_RELEASES)

    def close(self) -> None:
        """Restore what was before. Idempotent."""
        if self._former is None:
            return
        if self._releases:
            self._write(STOP_RELEASES)
        with contextlib.suppress(termios.error):  # it is gone
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._former)
        self._former = None

    def read(self) -> bytes:
        """Return what has been typed since the last call; never waits.

        Raises:
            TeleopError: The terminal has gone.
        """
        typed = b""
        try:
            while select.select([self._fd], [], [], 0.0)[0]:
                piece = os.read(self._fd, _READ_BYTES)
                if not piece:
                    raise TeleopError("The terminal was closed.")
                typed += piece
        except OSError as error:
            raise TeleopError(f"The terminal can't be read: {error.strerror}") from None
        return typed

    def _write(self, sequence: bytes) -> None:
        with contextlib.suppress(OSError):
            os.write(self._fd, sequence)
