"""What is in a dataset, and what is wrong with it, on a page that needs nothing but a browser."""

import base64
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from moxin_vla.core import dataset as keys
from moxin_vla.core.errors import RecordingError
from moxin_vla.evaluation.plots import histograms, joint_plots
from moxin_vla.evaluation.report import page_environment
from moxin_vla.recording.pixels import episode_images, sampled_rows
from moxin_vla.recording.quality.expected import Expected, expressed_actions
from moxin_vla.recording.quality.findings import RANKS, Finding, grouped
from moxin_vla.recording.quality.idle import idle_share
from moxin_vla.recording.stored import StoredDataset, StoredEpisode

_DETAILED = 40  # episodes with pictures and plots; those with findings come first
_THUMBNAILS, _HEIGHT, _QUALITY = 6, 96, 75  # per camera, in pixels, of JPEG
_OPEN = 8
_SUCCESS = {1: "success", 0: "failure", -1: "not marked"}


def dataset_facts(dataset: StoredDataset) -> list[tuple[str, str]]:
    """Return what is in a dataset, in words."""
    episodes = dataset.episodes
    rows = [e.rows for e in episodes]
    facts = [
        ("episodes", str(len(episodes))),
        ("rows", f"{sum(rows)} at {dataset.fps:g} Hz, {sum(rows) / dataset.fps:.0f} s"),
        ("robot", str(dataset.info.get("robot_type") or "not said")),
        ("joints", ", ".join(dataset.labels(keys.ACTION)) if _has(dataset) else "no actions"),
        ("images", ", ".join(_camera(dataset, key) for key in dataset.image_keys) or "none"),
    ]
    if rows:
        facts.append(
            ("episode length", f"{min(rows)} to {max(rows)} rows, median {_median(rows)}")
        )
    said = Counter(e.instructions[0] or "none" for e in episodes if e.instructions)
    named = [f"{text} ({count})" for text, count in said.most_common(6)]
    facts.append(("instructions", f"{len(said)}: {', '.join(named)}"))
    success = Counter(s for e in episodes if (s := outcome(e)) is not None)
    if success:
        text = ", ".join(f"{count} {_SUCCESS.get(s, s)}" for s, count in success.most_common())
        facts.append(("outcomes", text))
    if drove := _drivers(episodes):
        facts.append(("who drove", drove))
    return facts


def write_dataset_html(
    path: Path, dataset: StoredDataset, findings: Sequence[Finding], expected: Expected
) -> None:
    """Write the report; pictures and plots are inside the file."""
    worst = {e.index: _worst(e.index, findings) for e in dataset.episodes}
    by_interest = sorted(dataset.episodes, key=lambda e: (RANKS.get(worst[e.index], 9), e.index))
    detailed = {e.index for e in by_interest[:_DETAILED]}
    opened = {e.index for e in by_interest[:_OPEN]}
    idle = idle_share(dataset)
    page = (
        page_environment()
        .get_template("dataset.html.j2")
        .render(
            title=dataset.root.resolve().name,
            subtitle=f"LeRobotDataset {dataset.info['codebase_version']}; {summary(findings)}",
            facts=dataset_facts(dataset),
            findings=grouped(findings),
            reference=expected.reference.name if expected.reference else "",
            histograms=_histograms(dataset, expected),
            episodes=[
                {
                    "index": e.index,
                    "open": e.index in opened,
                    "worst": worst[e.index],
                    "instruction": "; ".join(text or "no instruction" for text in e.instructions),
                    "said": _SUCCESS.get(s, "") if (s := outcome(e)) is not None else "",
                    "rows": e.rows,
                    "seconds": e.rows / dataset.fps,
                    "strips": _strips(dataset, e) if e.index in detailed else [],
                    "plots": _plots(dataset, e) if e.index in detailed else "",
                    "facts": _episode_facts(e, findings, idle.get(e.index)),
                }
                for e in dataset.episodes
            ],
        )
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def summary(findings: Sequence[Finding]) -> str:
    """Return how many findings of each kind there are, in words."""
    counts = Counter(f.severity.value for f in findings)
    return ", ".join(f"{counts[s]} {s}{'s' * (counts[s] != 1)}" for s in RANKS if counts[s]) or (
        "nothing wrong was found"
    )


def outcome(episode: StoredEpisode) -> int | None:
    """Return 1 for success, 0 for failure, -1 if nobody said; None without such a column."""
    marks = episode.columns.get(keys.SUCCESS)
    return None if marks is None or not len(marks) else int(marks.reshape(-1)[-1])


def _has(dataset: StoredDataset) -> bool:
    return keys.ACTION in dataset.features


def _camera(dataset: StoredDataset, key: str) -> str:
    feature = dataset.features[key]
    height, width = feature["shape"][:2]
    return f"{key.removeprefix(keys.image_key(''))} {width}x{height} ({feature['dtype']})"


def _median(values: Sequence[int]) -> int:
    return int(np.median(values))


def _drivers(episodes: Sequence[StoredEpisode]) -> str:
    """Return the share of rows that each driver has, and of those in which somebody stepped in."""
    parts = [e.columns[keys.DRIVER].reshape(-1) for e in episodes if keys.DRIVER in e.columns]
    if not parts:
        return ""
    drove = np.concatenate(parts)
    shares = [f"{d.name.lower()} {np.mean(drove == d):.0%}" for d in keys.Drove]
    stepped = [
        e.columns[keys.INTERVENTION].any() for e in episodes if keys.INTERVENTION in e.columns
    ]
    return ", ".join(shares) + f" of the rows; interventions in {sum(stepped)} episodes"


def _worst(episode: int, findings: Sequence[Finding]) -> Any:
    own = [f.severity for f in findings if f.episode == episode]
    return min(own, key=RANKS.__getitem__, default="")


def _histograms(dataset: StoredDataset, expected: Expected) -> str:
    if not _has(dataset):
        return ""
    labels, reference = dataset.labels(keys.ACTION), expected.reference
    if reference is not None and reference.comparable and len(reference.names) == len(labels):
        values = [expressed_actions(e, reference) for e in dataset.episodes if e.rows]
        if not sum(map(len, values)):
            return ""
        bounds = (reference.action.low, reference.action.high)
        return histograms(labels, np.concatenate(values), bounds)
    values = [v for e in dataset.episodes if (v := e.vector(keys.ACTION)) is not None]
    return histograms(labels, np.concatenate(values)) if values else ""


def _plots(dataset: StoredDataset, episode: StoredEpisode) -> str:
    measured, action = episode.vector(keys.PROPRIO), episode.vector(keys.ACTION)
    if action is None or not len(action):
        return ""
    if measured is None or measured.shape != action.shape:
        measured = action
    unit = "rad" if dataset.metadata else ""
    return joint_plots(dataset.labels(keys.ACTION), measured, action, 1 / dataset.fps, unit=unit)


def _strips(dataset: StoredDataset, episode: StoredEpisode) -> list[tuple[str, list[str]]]:
    """Return a few pictures per camera, as base64 JPEGs; none where they can't be read."""
    import cv2

    strips = []
    for key in dataset.image_keys:
        images: list[str] = []
        try:
            rows = sampled_rows(episode.rows, _THUMBNAILS)
            for image in episode_images(dataset, episode, key, rows):
                width = round(image.shape[1] * _HEIGHT / image.shape[0])
                small = cv2.resize(image, (width, _HEIGHT), interpolation=cv2.INTER_AREA)
                pixels = cv2.cvtColor(small, cv2.COLOR_RGB2BGR)
                _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
                images.append(base64.b64encode(data.tobytes()).decode())
        except RecordingError:
            pass  # which is among the findings
        strips.append((key.removeprefix(keys.image_key("")), images))
    return strips


def _episode_facts(
    episode: StoredEpisode, findings: Sequence[Finding], idle: float | None
) -> list[tuple[str, str]]:
    facts = [(f.severity.value, f"{f.column or ''} {f.what}") for f in findings
             if f.episode == episode.index]  # fmt: skip
    if idle is not None:
        facts.append(("stands still in", f"{idle:.0%} of its rows"))
    if drove := _drivers([episode]):
        facts.append(("who drove", drove.partition(";")[0]))
    return facts
