"""results.json and a report.html that needs nothing but a browser."""

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from moxin_vla.core.embodiment import Embodiment
from moxin_vla.evaluation.listening import summarise_listening
from moxin_vla.evaluation.plots import joint_plots
from moxin_vla.evaluation.rollout import EpisodeResult
from moxin_vla.evaluation.statistics import (
    Summary,
    by_family,
    interventions,
    percent,
    percent_range,
)
from moxin_vla.evaluation.video import NO_VIDEO, can_encode, encode_mp4

SCHEMA = 1
_DETAILED = 60  # episodes with plots; the failures come first


def write_json(
    path: Path,
    rows: Sequence[Summary],
    results: Sequence[EpisodeResult],
    determined: Sequence[tuple[str, str]],
    paired: Sequence[EpisodeResult] | None = None,
) -> None:
    """Write every number of an evaluation; `paired` are the second runs of the listening test."""
    content = {
        "schema": SCHEMA,
        "settings": dict(determined),
        "summary": [asdict(row) for row in rows],
        "listening": None if paired is None else asdict(summarise_listening(paired)),
        "control_loop": interventions(results),
        "episodes": [_episode_json(result) for result in results],
        "paired_episodes": [_episode_json(result) for result in paired or ()],
    }
    text = json.dumps(plain(content), indent=1, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def _episode_json(result: EpisodeResult) -> dict[str, Any]:
    return {
        **asdict(result.spec),
        "success": result.success,
        "failure": result.failure,
        "error": result.error,
        "steps": result.status.step,
        "horizon": result.status.horizon,
        "sim_s": result.sim_s,
        "wall_s": round(result.wall_s, 3),
        "inference_ms": [round(ms, 3) for ms in result.inference_ms],
        "plan_ticks": [tick for tick, _ in result.chunks],
        "trajectory": _trajectory_hash(result),
        "control_loop": result.loop,
    }


def _trajectory_hash(result: EpisodeResult) -> str:
    """Return a hash of what was measured and commanded: equal means bit-identical."""
    parts = (np.ascontiguousarray(part).tobytes() for part in (result.proprio, result.commands))
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def milliseconds(value: float) -> str:
    """Write a time in [ms] with as many digits as it needs."""
    return "-" if not np.isfinite(value) else f"{value:.{1 if value < 10 else 0}f} ms"


def worth_saying(counts: dict[str, int]) -> str:
    """Write in words what the control loop had to do beyond playing chunks."""
    usual = ("ticks", "commits")
    said = [f"{k.replace('_', ' ')} {v}" for k, v in counts.items() if v and k not in usual]
    return ", ".join(said) or "no interventions"


def plain(value: Any) -> Any:
    """Make a value fit for strict JSON: NaN becomes null."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def write_html(
    path: Path,
    title: str,
    embodiment: Embodiment,
    results: Sequence[EpisodeResult],
    determined: Sequence[tuple[str, str]],
    paired: Sequence[EpisodeResult] | None = None,
) -> None:
    """Write the report; videos and plots are inside the file."""
    reasons = Counter(result.failure for result in results if not result.success)
    by_interest = sorted(
        range(len(results)), key=lambda i: (results[i].success, not results[i].frames)
    )
    detailed = set(by_interest[:_DETAILED]) | {i for i, r in enumerate(results) if r.frames}
    page = (
        page_environment()
        .get_template("report.html.j2")
        .render(
            title=title,
            subtitle=f"{len(results)} episodes, judged by the simulator; failures are shown first",
            rows=by_family(results),
            listening=None if paired is None else summarise_listening(paired),
            deaf=[result for result in paired or () if not result.success],
            interventions=worth_saying(interventions(results)),
            no_video="" if can_encode() else NO_VIDEO,
            failures=reasons.most_common(),
            settings=determined,
            episodes=[
                _episode_view(result, embodiment, i in detailed, len(results) <= 12)
                for i, result in sorted(enumerate(results), key=lambda item: item[1].success)
            ],
        )
    )
    path.write_text(page, encoding="utf-8")


def page_environment() -> Any:
    """Return the templates of reports, with their filters."""
    from jinja2 import Environment, PackageLoader, select_autoescape

    environment = Environment(
        loader=PackageLoader("moxin_vla.evaluation"), autoescape=select_autoescape(["html.j2"])
    )
    environment.filters |= {
        "ms": milliseconds,
        "percent": percent,
        "percent_range": percent_range,
    }
    return environment


def _episode_view(
    result: EpisodeResult, embodiment: Embodiment, detailed: bool, opened: bool
) -> dict[str, Any]:
    step_s = result.step_ns / 1e9
    video = encode_mp4(result.frames, 1.0 / (result.frame_steps * step_s))
    plans = result.inference_ms or [float("nan")]
    return {
        "success": result.success,
        "failure": result.failure,
        "instruction": result.spec.instruction,
        "family": result.spec.family,
        "seed": result.spec.seed,
        "time_s": result.sim_s,
        "open": opened,
        "video": base64.b64encode(video).decode(),
        "plots": _plots(result, embodiment) if detailed else "",
        "facts": [
            ("steps", f"{result.status.step} of {result.status.horizon}"),
            (
                "plans",
                f"{len(result.chunks)}, median {milliseconds(np.median(plans))}, "
                f"worst {milliseconds(max(plans))}",
            ),
            ("wall time", f"{result.wall_s:.2f} s"),
            ("control loop", worth_saying(interventions([result]))),
        ],
    }


def _plots(result: EpisodeResult, embodiment: Embodiment) -> str:
    return joint_plots(
        embodiment.joint_names,
        result.proprio,
        result.commands,
        result.step_ns / 1e9,
        [chunk for chunk in result.chunks if np.all(np.isfinite(chunk[1]))],
    )
