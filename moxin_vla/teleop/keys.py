"""Bytes from a terminal -> keys; and which keys are down, even if nobody tells of releases."""

import re
from dataclasses import dataclass
from enum import Enum

from moxin_vla.core.clock import seconds_to_ns

RELEASES_ARE_TOLD = "releases-are-told"
INTERRUPT = "ctrl-c"
# How long a key counts as down after a sign of life; terminals repeat every 30 to 50 ms.
_DOWN_NS = seconds_to_ns(0.15)
# With releases told, some key repeats or is released; if neither, the release was lost.
_LOST_NS = seconds_to_ns(1.0)

_CSI = re.compile(rb"\x1b\[([?0-9;:]*)([@-~])")
_UNFINISHED = re.compile(rb"\x1b(\[[?0-9;:]*)?$")
_NAMES = {"A": "up", "B": "down", "C": "right", "D": "left"}
_CHARACTERS = {" ": "space", "\r": "enter", "\n": "enter", "\x7f": "backspace", "\x03": INTERRUPT}
_CTRL = 4  # bit of a modifier


class Change(Enum):
    """What happened to a key."""

    PRESS = 1
    REPEAT = 2
    RELEASE = 3


@dataclass(frozen=True, slots=True)
class Stroke:
    """One key event; a terminal without the kitty protocol sends presses only."""

    key: str
    change: Change = Change.PRESS


class KeyDecoder:
    """Takes bytes apart; keeps the beginning of a sequence until the rest of it arrives."""

    def __init__(self) -> None:
        self._rest = b""

    def decode(self, typed: bytes) -> list[Stroke]:
        """Return the key events in `typed`."""
        data, strokes, self._rest = self._rest + typed, [], b""
        while data:
            if match := _CSI.match(data):
                strokes += _sequence(match[1].decode(), match[2].decode())
                data = data[match.end() :]
            elif _UNFINISHED.match(data):
                self._rest, data = data, b""
            else:
                strokes += _character(data[:1])
                data = data[1:]
        return strokes


def _character(byte: bytes) -> list[Stroke]:
    text = byte.decode("latin-1")
    name = _CHARACTERS.get(text, text.lower() if text.isprintable() else "")
    return [Stroke(name)] if name else []


def _sequence(parameters: str, final: str) -> list[Stroke]:
    """Return the event of `CSI code ; modifiers:event u` or of an arrow key."""
    if final == "u" and parameters.startswith("?"):
        return [Stroke(RELEASES_ARE_TOLD)] if parameters != "?0" else []
    code, _, rest = parameters.partition(";")
    modifiers, _, event = rest.partition(";")[0].partition(":")
    change = Change(int(event)) if event in ("1", "2", "3") else Change.PRESS
    if final in _NAMES:
        return [Stroke(_NAMES[final], change)]
    number = code.partition(":")[0]
    if final != "u" or not number.isdigit() or not 0 < int(number) < 0x110000:
        return []
    text = chr(int(number))
    if modifiers.isdigit() and (int(modifiers) - 1) & _CTRL:
        return [Stroke(INTERRUPT, change)] if text == "c" else []
    name = _CHARACTERS.get(text, text.lower() if text.isprintable() else "")
    return [Stroke(name, change)] if name else []


class HeldKeys:
    """Knows which keys are down.

    If the terminal tells of releases, a key is down until its release, or until nothing was heard
    for a second: a window that loses the focus gets no release. If it does not, a held key shows
    by its repetitions: it is down for 0.15 s after each. Between the first press and the first
    repetition, which the desktop delays, such a key is up for a moment.
    """

    def __init__(self) -> None:
        self._until_ns: dict[str, int] = {}
        self.told = False

    def put(self, stroke: Stroke, now_ns: int) -> bool:
        """Take an event; return True if the key went down with it, which a repetition does not."""
        if stroke.key == RELEASES_ARE_TOLD:
            self.told = True
            return False
        if stroke.change is Change.RELEASE:
            self._until_ns.pop(stroke.key, None)
            return False
        was_down = stroke.key in self.down(now_ns)
        if self.told:  # the desktop repeats only the last key: its sign of life is one for all
            alive = self.down(now_ns) | {stroke.key}
            self._until_ns.update(dict.fromkeys(alive, now_ns + _LOST_NS))
            return stroke.change is Change.PRESS
        self._until_ns[stroke.key] = now_ns + _DOWN_NS
        return not was_down

    def down(self, now_ns: int) -> frozenset[str]:
        """Return the keys that are down."""
        return frozenset(key for key, until_ns in self._until_ns.items() if until_ns >= now_ns)
