"""What the operator sees: who drives, where the arm is, which keys there are."""

import time
from collections.abc import Sequence
from types import TracebackType

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from moxin_vla.teleop.base import Mode
from moxin_vla.teleop.drive import Phase
from moxin_vla.teleop.view import TeleopView

_PERIOD_S = 0.1
_KEY_COLUMNS = 3
_STYLES = {Phase.WATCHING: "bold cyan", Phase.TAKING: "bold yellow", Phase.DRIVING: "bold green"}
_MODES = {Mode.JOINT: "joint mode", Mode.END_EFFECTOR: "end-effector mode", None: "follows"}


class Screen:
    """A picture that is drawn anew in place; on something that is no terminal, lines when who
    drives, the trouble or a note changes. A context manager.

    Args:
        console: Where to draw.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console()
        self._live: Live | None = None
        self._drawn_s, self._line = 0.0, ""

    def __enter__(self) -> "Screen":
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, view: TeleopView, note: str = "") -> None:
        """Draw a moment, if the last one was drawn long enough ago."""
        if self._live is None:
            self._say(view, note)
        elif time.monotonic() - self._drawn_s >= _PERIOD_S:
            self._drawn_s = time.monotonic()
            self._live.update(picture(view, note), refresh=True)

    def _say(self, view: TeleopView, note: str) -> None:
        parts = (headline(view), view.trouble, view.recorder, note)
        line = "; ".join(part for part in parts if part)
        if line != self._line:
            self._line = line
            self._console.print(line, markup=False, highlight=False)


def headline(view: TeleopView) -> str:
    """Return in words who drives."""
    if view.phase is Phase.WATCHING:
        return f"{view.driver or 'nobody'} drives"
    if view.phase is Phase.TAKING:
        return "taking over" + (f": {view.control}" if view.control else "")
    return "you drive" + (": aligning, move the leader to the arm" if view.aligning else "")


def picture(view: TeleopView, note: str) -> RenderableType:
    """Return everything that is shown."""
    top = Text.assemble(
        (headline(view), _STYLES[view.phase]),
        f"   {_MODES[view.mode]}   speed {view.speed:.0%}   ",
        ("dead-man held", "green") if view.held else ("dead-man released", "dim"),
        f"   {view.device}",
    )
    lines: list[RenderableType] = [top, _joints(view), _keys(view.keys)]
    if view.phase is Phase.WATCHING and view.control:
        lines.append(Text(f"control_node: {view.control}", style="dim"))
    if view.recorder:
        lines.append(Text(f"recorder: {view.recorder}"))
    if note:
        lines.append(Text(note, style="cyan"))
    if view.trouble:
        lines.append(Text(view.trouble, style="bold red"))
    return Group(*lines)


def _joints(view: TeleopView) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("joint", "measured °", "target °"):
        table.add_column(column, justify="left" if column == "joint" else "right")
    for name, measured, target in view.joints:
        table.add_row(Text(name), _degrees(measured), _degrees(target))
    return table


def _degrees(value: float | None) -> str:
    return "-" if value is None else f"{np.rad2deg(value):.1f}"


def _keys(keys: Sequence[tuple[str, str]]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    rows = -(-len(keys) // _KEY_COLUMNS)
    columns = [keys[i * rows : (i + 1) * rows] for i in range(_KEY_COLUMNS)]
    for row in range(rows):
        cells: list[Text] = []
        for column in columns:
            key, meaning = column[row] if row < len(column) else ("", "")
            cells += [Text(key, style="bold"), Text(meaning)]
        table.add_row(*cells)
    return table
