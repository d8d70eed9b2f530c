"""What somebody who records sees: what is recorded, what each stream does, what became of it."""

import time
from types import TracebackType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

_PERIOD_S = 0.2
_COUNTS = ("received", "used", "repeated", "dropped", "late")


class RecordScreen:
    """A picture drawn anew in place; on something that is no terminal, a line when it changes.

    Args:
        keys: What can be done, in words.
        console: Where to draw.
    """

    def __init__(self, keys: str, console: Console | None = None) -> None:
        self._keys, self._console = keys, console or Console()
        self._live: Live | None = None
        self._drawn_s, self._line = 0.0, ""

    def __enter__(self) -> "RecordScreen":
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

    def show(self, status: Any, answer: str) -> None:
        """Draw recorder_node's status, if the last one was drawn long enough ago."""
        if time.monotonic() - self._drawn_s < _PERIOD_S:
            return
        self._drawn_s = time.monotonic()
        values = {pair.key: pair.value for pair in status.values}
        if self._live is not None:
            self._live.update(picture(status.message, values, answer, self._keys), refresh=True)
            return
        line = "; ".join(part for part in (status.message, values["last"]) if part)
        if line != self._line:
            self._line = line
            self._console.print(line, markup=False, highlight=False)


def picture(message: str, values: dict[str, str], answer: str, keys: str) -> RenderableType:
    """Return everything that is shown."""
    recording = values["recording"] == "True"
    style = "bold red" if values["trouble"] else ("bold green" if recording else "bold cyan")
    top = Text.assemble(
        ("● " if recording else "○ ", style),
        (message, style),
        f"   {values['rows']} rows, {values['seconds']} s   {values['episodes']} episodes saved",
        (f"   success: {values['success']}" if values["success"] else ""),
    )
    table = Table(box=None, pad_edge=False)
    for column in ("stream", "Hz", *_COUNTS):
        table.add_column(column, justify="left" if column == "stream" else "right")
    for name in streams(values):
        counts = [values[f"{name} {count}"] for count in _COUNTS]
        table.add_row(name, values.get(f"{name} Hz", "-"), *counts)
    lines: list[RenderableType] = [top, table, Text(f"'{values['instruction']}'", style="dim")]
    lines += [Text(text) for text in (values["last"], answer) if text]
    return Group(*lines, Text(keys, style="dim"))


def streams(values: dict[str, str]) -> list[str]:
    """Return the names of the streams that a status counts."""
    return [key.removesuffix(" received") for key in values if key.endswith(" received")]
