"""Joint plots as inline SVG: what was measured, what was commanded, and every chunk that was
planned.
"""

import html
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from moxin_vla.evaluation.rollout import EpisodeResult

_WIDTH, _HEIGHT, _PAD = 250, 110, 18


def joint_plots(result: EpisodeResult, joints: Sequence[str]) -> str:
    """Return one small SVG per joint: time in [s] to the right, angle in [rad] upwards."""
    if not len(result.proprio):
        return ""
    return "".join(_joint_plot(result, i, html.escape(name)) for i, name in enumerate(joints))


def _joint_plot(result: EpisodeResult, joint: int, name: str) -> str:
    measured, commanded = result.proprio[:, joint], result.commands[:, joint]
    chunks = [(start, actions[:, joint]) for start, actions in result.chunks]
    finite = np.concatenate([measured, commanded, *(c for _, c in chunks)])
    finite = finite[np.isfinite(finite)]
    low, high = float(finite.min()), float(finite.max())
    margin = max(0.02, 0.06 * (high - low))
    scale = _Scale(len(measured), low - margin, high + margin)
    lines = [_polyline(scale, c, "chunk", start) for start, c in chunks if np.all(np.isfinite(c))]
    lines += [_polyline(scale, commanded, "command"), _polyline(scale, measured, "measured")]
    seconds = len(measured) * result.step_ns / 1e9
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{name}">'
        f'<text x="4" y="11" class="name">{name}</text>'
        f'<text x="{_WIDTH - 4}" y="{_HEIGHT - 3}" text-anchor="end">{seconds:.1f} s</text>'
        f'<text x="{_WIDTH - 4}" y="11" text-anchor="end">{high:+.2f} rad</text>'
        f'<text x="4" y="{_HEIGHT - 3}">{low:+.2f} rad</text>{"".join(lines)}</svg>'
    )


class _Scale:
    def __init__(self, ticks: int, low: float, high: float) -> None:
        self._x = (_WIDTH - 8) / max(1, ticks - 1)
        self._low, self._y = low, (_HEIGHT - 2 * _PAD) / (high - low)
        self.ticks = ticks

    def points(self, values: NDArray[np.float64], start: int) -> str:
        values = values[: max(0, self.ticks - start)]
        return " ".join(
            f"{4 + (start + i) * self._x:.1f},{_HEIGHT - _PAD - (v - self._low) * self._y:.1f}"
            for i, v in enumerate(values)
        )


def _polyline(scale: _Scale, values: NDArray[np.float64], kind: str, start: int = 0) -> str:
    return f'<polyline class="{kind}" points="{scale.points(values, start)}"/>'
