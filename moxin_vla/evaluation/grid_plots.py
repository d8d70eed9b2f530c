"""Plots of a grid as inline SVG: one line per joiner over the delays."""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

_WIDTH, _HEIGHT = 460, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 28, 34
_TICKS = 5
COLOURS = ("#2563eb", "#d97706", "#059669", "#db2777", "#7c3aed", "#0891b2", "#65a30d", "#9f1239")


@dataclass(frozen=True, slots=True)
class Point:
    """One value of a line; `low` and `high` draw an interval if they differ from it."""

    column: int
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Line:
    """One joiner's values."""

    name: str
    colour: str
    points: tuple[Point, ...]


def chart(
    title: str, columns: Sequence[str], lines: Sequence[Line], top: float | None, unit: str
) -> str:
    """Return an SVG with one column per delay.

    Args:
        title: Shown at the top.
        columns: Names of the delays.
        lines: What to draw; points that are not finite are left out.
        top: Upper end of the axis, which begins at 0; None to fit the points.
        unit: Written behind the axis values.
    """
    highest = max((p.high for line in lines for p in line.points if _drawn(p)), default=1.0)
    axis = _Axis(len(columns), top or _round_up(highest))
    parts = [_frame(axis, columns, unit)]
    for index, line in enumerate(lines):
        parts.append(_line(axis, line, index - (len(lines) - 1) / 2))
    name = html.escape(title)
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{name}">'
        f'<text x="{_LEFT}" y="16" class="title">{name}</text>{"".join(parts)}</svg>'
    )


class _Axis:
    def __init__(self, columns: int, top: float) -> None:
        self.top = top
        self._step = (_WIDTH - _LEFT - _RIGHT) / max(1, columns)

    def x(self, column: float) -> float:
        return _LEFT + (column + 0.5) * self._step

    def y(self, value: float) -> float:
        return _HEIGHT - _BOTTOM - value / self.top * (_HEIGHT - _TOP - _BOTTOM)


def _drawn(point: Point) -> bool:
    return math.isfinite(point.value)


def _round_up(value: float) -> float:
    """Return the next 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value)) if value > 0 else 1.0
    return next(m * power for m in (1, 2, 5, 10) if m * power >= value)


def _frame(axis: _Axis, columns: Sequence[str], unit: str) -> str:
    parts = []
    for tick in range(_TICKS + 1):
        value = axis.top * tick / _TICKS
        y = axis.y(value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(
            f'<text x="{_LEFT - 5}" y="{y + 3}" text-anchor="end">{value:.3g}{unit}</text>'
        )
    for index, name in enumerate(columns):
        parts.append(
            f'<text x="{axis.x(index)}" y="{_HEIGHT - 16}" text-anchor="middle">'
            f"d = {html.escape(name)}</text>"
        )
    return "".join(parts)


def _line(axis: _Axis, line: Line, place: float) -> str:
    """Draw a line; `place` moves it sideways, so that intervals do not hide one another."""
    points = [p for p in line.points if _drawn(p)]
    where = [(axis.x(p.column) + 5 * place, axis.y(p.value)) for p in points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in where)
    parts = [f'<polyline points="{path}" style="stroke:{line.colour}; stroke-width:1.5"/>']
    for point, (x, y) in zip(points, where, strict=True):
        parts.append(
            f'<line class="range" x1="{x:.1f}" x2="{x:.1f}" y1="{axis.y(point.low):.1f}" '
            f'y2="{axis.y(point.high):.1f}" stroke="{line.colour}"/>'
        )
        parts.append(f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{line.colour}"/>')
    return "".join(parts)
