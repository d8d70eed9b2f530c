"""Small plots as inline SVG: joints over time, and how often each value is there."""

import html
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_WIDTH, _HEIGHT, _PAD = 250, 110, 18
_BINS = 40
_MOST_POINTS = 400  # of a line


def joint_plots(
    joints: Sequence[str],
    measured: NDArray[np.floating],
    commanded: NDArray[np.floating],
    step_s: float,
    chunks: Sequence[tuple[int, NDArray[np.floating]]] = (),
    unit: str = "rad",
) -> str:
    """Return one small SVG per joint: time in [s] to the right, angle upwards.

    Args:
        joints: Names, length D.
        measured: What was measured, shape (n, D).
        commanded: What was commanded, shape (n, D).
        step_s: Time between two rows, in [s].
        chunks: First row and actions, shape (H, D), of what was planned.
        unit: Of the values.
    """
    if not len(measured):
        return ""
    plots = []
    for i, name in enumerate(joints):
        planned = [(start, actions[:, i]) for start, actions in chunks]
        scale = _Scale(len(measured), measured[:, i], commanded[:, i], *(c for _, c in planned))
        lines = [_polyline(scale, c, "chunk", start) for start, c in planned]
        lines += [_polyline(scale, commanded[:, i], "command")]
        lines += [_polyline(scale, measured[:, i], "measured")]
        seconds = f"{len(measured) * step_s:.1f} s"
        ends = (f"{scale.low:+.2f} {unit}", f"{scale.high:+.2f} {unit}")
        plots.append(_framed(name, ends, seconds, "".join(lines)))
    return "".join(plots)


def histograms(
    names: Sequence[str],
    values: NDArray[np.floating],
    bounds: tuple[NDArray[np.floating], NDArray[np.floating]] | None = None,
) -> str:
    """Return one small SVG per dim: how often each value is there.

    Args:
        names: Of the dims, length D.
        values: Shape (n, D).
        bounds: Lower and upper end that a checkpoint knows, each (D,); drawn as lines.
    """
    plots = []
    for i, name in enumerate(names):
        column = values[np.isfinite(values[:, i]), i]
        if not len(column):
            continue
        known = [] if bounds is None else [float(bounds[0][i]), float(bounds[1][i])]
        low, high = min(*known, column.min()) if known else column.min(), column.max()
        high = max([*known, float(high)])
        counts, edges = np.histogram(column, _BINS, (low, max(high, low + 1e-6)))
        x = 4 + (edges - edges[0]) / (edges[-1] - edges[0]) * (_WIDTH - 8)
        top = counts.max()
        bars = "".join(
            f'<rect class="bin" x="{left:.1f}" y="{_HEIGHT - _PAD - h:.1f}" '
            f'width="{right - left - 0.5:.1f}" height="{h:.1f}"/>'
            for left, right, h in zip(x, x[1:], counts / top * (_HEIGHT - 2 * _PAD), strict=False)
            if h
        )
        for bound in known:
            at = 4 + (bound - edges[0]) / (edges[-1] - edges[0]) * (_WIDTH - 8)
            bars += f'<line class="bound" x1="{at:.1f}" x2="{at:.1f}" y1="{_PAD}" '
            bars += f'y2="{_HEIGHT - _PAD}"/>'
        plots.append(_framed(name, (f"{low:+.2f}", ""), f"{high:+.2f}", bars))
    return "".join(plots)


def _framed(name: str, ends: tuple[str, str], right: str, content: str) -> str:
    """Return an SVG with its texts in the corners: the name, and what the axes span."""
    name = html.escape(name)
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{name}">'
        f'<text x="4" y="11" class="name">{name}</text>'
        f'<text x="{_WIDTH - 4}" y="{_HEIGHT - 3}" text-anchor="end">{right}</text>'
        f'<text x="{_WIDTH - 4}" y="11" text-anchor="end">{ends[1]}</text>'
        f'<text x="4" y="{_HEIGHT - 3}">{ends[0]}</text>{content}</svg>'
    )


class _Scale:
    """Puts rows and values on the picture; values that are not finite are left out."""

    def __init__(self, ticks: int, *parts: NDArray[np.floating]) -> None:
        finite = np.concatenate(parts)
        finite = finite[np.isfinite(finite)] if np.isfinite(finite).any() else np.zeros(1)
        self.low, self.high = float(finite.min()), float(finite.max())
        margin = max(0.02, 0.06 * (self.high - self.low))
        self._x = (_WIDTH - 8) / max(1, ticks - 1)
        self._zero = self.low - margin
        self._y = (_HEIGHT - 2 * _PAD) / (self.high + margin - self._zero)
        self.ticks = ticks

    def points(self, values: NDArray[np.floating], start: int) -> str:
        values = values[: max(0, self.ticks - start)]
        every = 1 + len(values) // _MOST_POINTS
        return " ".join(
            f"{4 + (start + i) * self._x:.1f},{_HEIGHT - _PAD - (v - self._zero) * self._y:.1f}"
            for i, v in enumerate(values)
            if i % every == 0 and np.isfinite(v)
        )


def _polyline(scale: _Scale, values: NDArray[np.floating], kind: str, start: int = 0) -> str:
    return f'<polyline class="{kind}" points="{scale.points(values, start)}"/>'
