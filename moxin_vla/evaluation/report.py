"""results.json and a report.html that needs nothing but a browser."""

import base64
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from moxin_vla.core.embodiment import Embodiment
from moxin_vla.evaluation.listening import Listening
from moxin_vla.evaluation.plots import joint_plots
from moxin_vla.evaluation.provenance import provenance
from moxin_vla.evaluation.rollout import EpisodeResult
from moxin_vla.evaluation.runner import EvaluationConfig
from moxin_vla.evaluation.statistics import Summary, by_family
from moxin_vla.evaluation.video import encode_mp4

SCHEMA = 1
_DETAILED = 60  # episodes with plots; the failures come first


def settings(
    config: EvaluationConfig, embodiment: Embodiment, fingerprint: str
) -> list[tuple[str, str]]:
    """Return everything that determines the result, as (name, value)."""
    seeds = config.seeds
    rows = {
        "policy": config.policy,
        "policy fingerprint": fingerprint or "none",
        "embodiment": embodiment.name,
        "families": ", ".join(config.families),
        "seeds per family": f"{seeds.start} to {seeds.stop - 1}",
        "control rate": f"{embodiment.control_rate_hz:g} Hz",
        "execution horizon": f"{config.execution_horizon} steps",
        "run": "in one process" if config.over == "inprocess" else f"over ROS 2, {config.mode}",
        **provenance(),
    }
    return [(name, str(value)) for name, value in rows.items()]


def write_json(
    path: Path,
    rows: Sequence[Summary],
    results: Sequence[EpisodeResult],
    determined: Sequence[tuple[str, str]],
    listening: Listening | None = None,
) -> None:
    """Write every number of an evaluation."""
    content = {
        "schema": SCHEMA,
        "settings": dict(determined),
        "summary": [asdict(row) for row in rows],
        "listening": asdict(listening) if listening else None,
        "episodes": [_episode_json(result) for result in results],
    }
    path.write_text(json.dumps(_plain(content), indent=1) + "\n", encoding="utf-8")


def _episode_json(result: EpisodeResult) -> dict[str, Any]:
    return {
        **asdict(result.spec),
        "success": result.success,
        "failure": result.failure,
        "steps": result.status.step,
        "horizon": result.status.horizon,
        "wall_s": round(result.wall_s, 3),
        "inference_ms": [round(ms, 3) for ms in result.inference_ms],
        "control_loop": result.loop,
    }


def _plain(value: Any) -> Any:
    """Make a value fit for strict JSON: NaN becomes null."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def write_html(
    path: Path,
    title: str,
    embodiment: Embodiment,
    results: Sequence[EpisodeResult],
    determined: Sequence[tuple[str, str]],
    listening: Listening | None = None,
) -> None:
    """Write the report; videos and plots are inside the file."""
    from jinja2 import Environment, PackageLoader, select_autoescape

    environment = Environment(
        loader=PackageLoader("moxin_vla.evaluation"), autoescape=select_autoescape(["html.j2"])
    )
    reasons = Counter(result.failure for result in results if not result.success)
    by_interest = sorted(
        range(len(results)), key=lambda i: (results[i].success, not results[i].frames)
    )
    detailed = set(by_interest[:_DETAILED]) | {i for i, r in enumerate(results) if r.frames}
    page = environment.get_template("report.html.j2").render(
        title=title,
        subtitle=f"{len(results)} episodes, judged by the simulator",
        rows=by_family(results),
        listening=listening,
        failures=reasons.most_common(),
        settings=determined,
        episodes=[
            _episode_view(result, embodiment, i in detailed, len(results) <= 12)
            for i, result in enumerate(results)
        ],
    )
    path.write_text(page, encoding="utf-8")


def _episode_view(
    result: EpisodeResult, embodiment: Embodiment, detailed: bool, opened: bool
) -> dict[str, Any]:
    step_s = result.step_ns / 1e9
    video = encode_mp4(result.frames, 1.0 / (result.frame_steps * step_s))
    plans = result.inference_ms or [float("nan")]
    loop = {k: v for k, v in result.loop.items() if v and k not in ("ticks", "mode", "reason")}
    return {
        "success": result.success,
        "failure": result.failure,
        "instruction": result.spec.instruction,
        "family": result.spec.family,
        "seed": result.spec.seed,
        "time_s": result.status.step * step_s,
        "open": opened,
        "video": base64.b64encode(video).decode(),
        "plots": joint_plots(result, embodiment.joint_names) if detailed else "",
        "facts": [
            ("steps", f"{result.status.step} of {result.status.horizon}"),
            (
                "plans",
                f"{len(result.chunks)}, median {np.median(plans):.1f} ms, "
                f"worst {max(plans):.1f} ms",
            ),
            ("wall time", f"{result.wall_s:.2f} s"),
            ("control loop", ", ".join(f"{k} {v}" for k, v in loop.items()) or "no interventions"),
        ],
    }
