"""How a training went, on a page that needs nothing but a browser: loss, rate, evaluations."""

import html
import math
from collections.abc import Sequence
from pathlib import Path

from moxin_vla.core.journal import read_rows
from moxin_vla.evaluation.report import page_environment

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 720, 240, 58, 14, 26, 26
_POINTS = 500  # of a line; a run of 100,000 steps is averaged over neighbours
_SMOOTH = 0.05  # of the run's length


def write_curves(folder: Path) -> Path:
    """Draw what `metrics.jsonl` and `evaluations.jsonl` of a training say; returns the page."""
    metrics, judged = (read_rows(folder / f"{name}.jsonl") for name in ("metrics", "evaluations"))
    steps, losses = ([row[key] for row in metrics] for key in ("step", "loss"))
    width = max(1, round(_SMOOTH * len(losses)))
    charts = [
        _chart("loss", steps, [("chunk", losses), ("command", _mean(losses, width))], log=True),
        _chart("learning rate", steps, [("command", [row["learning_rate"] for row in metrics])]),
    ]
    if judged:
        share = [row["success"] / row["episodes"] for row in judged]
        at = [row["step"] for row in judged]
        charts.append(_chart("success in simulation", at, [("command", share)], top=1.0))
    path = folder / "curves.html"
    page = page_environment().get_template("curves.html.j2")
    text = page.render(title=folder.resolve().name, charts=charts, steps=steps[-1] if steps else 0)
    path.write_text(text, encoding="utf-8")
    return path


def _mean(values: Sequence[float], width: int) -> list[float]:
    """Return the mean of each value and those before it, `width` in all."""
    total, means = 0.0, []
    for index, value in enumerate(values):
        total += value - (values[index - width] if index >= width else 0.0)
        means.append(total / min(index + 1, width))
    return means


def _chart(
    name: str,
    steps: Sequence[int],
    lines: Sequence[tuple[str, Sequence[float]]],
    log: bool = False,
    top: float | None = None,
) -> str:
    """Return an SVG: steps to the right, values upwards, on a logarithmic axis if asked for."""
    values = [v for _, line in lines for v in line if math.isfinite(v) and (v > 0 or not log)]
    if not values:
        return ""
    low, high = (min(values), max(values)) if log else (0.0, top or max(values))
    high = high if high > low else low + 1e-9

    def upwards(value: float) -> float:
        share = (
            math.log(value / low) / math.log(high / low) if log else (value - low) / (high - low)
        )
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    def right(step: int) -> float:
        first, last = steps[0], max(steps[-1], steps[0] + 1)
        return _LEFT + (step - first) / (last - first) * (_WIDTH - _LEFT - _RIGHT)

    every = max(1, len(steps) // _POINTS)
    drawn = "".join(
        f'<polyline class="{kind}" points="'
        + " ".join(
            f"{right(s):.1f},{upwards(v):.1f}"
            for s, v in list(zip(steps, line, strict=True))[::every]
            if math.isfinite(v) and (v > 0 or not log)
        )
        + '"/>'
        for kind, line in lines
    )
    axis = "".join(
        f'<text x="{_LEFT - 6}" y="{upwards(v) + 3:.1f}" text-anchor="end">{v:.3g}</text>'
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{upwards(v):.1f}" '
        f'y2="{upwards(v):.1f}"/>'
        for v in (low, math.sqrt(low * high) if log else (low + high) / 2, high)
    )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{html.escape(name)}">'
        f'<text x="{_LEFT}" y="14" class="name">{html.escape(name)}</text>{axis}{drawn}'
        f'<text x="{_LEFT}" y="{_HEIGHT - 8}">step {steps[0]}</text>'
        f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 8}" text-anchor="end">{steps[-1]}</text></svg>'
    )
