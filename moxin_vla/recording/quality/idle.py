"""Does the arm do anything? Rows in which nothing moves teach a policy to wait."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from moxin_vla.core import dataset as keys
from moxin_vla.recording.quality.expected import Expected, robust_range
from moxin_vla.recording.quality.findings import Finding, Severity, where_rows
from moxin_vla.recording.stored import StoredDataset, StoredEpisode

_SLOW = 0.02  # of a joint's range, per second: slower is standing still
_START_S, _END_S, _SHARE = 0.5, 1.0, 0.5


def find(dataset: StoredDataset, expected: Expected) -> Iterator[Finding]:
    """Look for waiting at the start, at the end, and in all."""
    ranges = {key: robust_range(dataset, key) for key in (keys.PROPRIO, keys.ACTION)}
    for episode in dataset.episodes:
        still = still_rows(episode, ranges, dataset.fps)
        if len(still) < 2:
            continue
        if still.all():
            yield Finding(
                Severity.ERROR, "nothing moves", "Drop the episode.", episode.index, keys.ACTION
            )
            continue
        moving = np.flatnonzero(~still)
        start, end = int(moving[0]), len(still) - 1 - int(moving[-1])
        for count, allowed_s, rows, name in (
            (start, _START_S, np.arange(start), "before it begins to move"),
            (end, _END_S, np.arange(len(still) - end, len(still)), "after its last motion"),
        ):
            if count / dataset.fps > allowed_s:
                yield _finding(episode, f"waits {count / dataset.fps:.1f} s {name}", rows, dataset)
        if still.mean() > _SHARE:
            rows = np.flatnonzero(still)
            yield _finding(
                episode, f"stands still in {still.mean():.0%} of its rows", rows, dataset
            )


def still_rows(
    episode: StoredEpisode, ranges: dict[str, NDArray[np.float64]], fps: float
) -> NDArray[np.bool_]:
    """Return which rows neither move nor are told to, shape (n,)."""
    still = np.ones(episode.rows, bool)
    for key, spread in ranges.items():
        values = episode.vector(key)
        if values is not None and len(values) > 1:
            speed = np.abs(np.diff(values, axis=0, prepend=values[:1])) * fps
            still &= (speed <= _SLOW * np.maximum(spread, 1e-9)).all(axis=1)
    return still


def idle_share(dataset: StoredDataset) -> dict[int, float]:
    """Return per episode the share of rows in which it stands still."""
    ranges = {key: robust_range(dataset, key) for key in (keys.PROPRIO, keys.ACTION)}
    return {
        e.index: float(still_rows(e, ranges, dataset.fps).mean())
        for e in dataset.episodes
        if e.rows
    }


def _finding(
    episode: StoredEpisode, what: str, rows: NDArray[np.int64], dataset: StoredDataset
) -> Finding:
    return Finding(
        Severity.WARNING,
        what,
        "A policy learns to wait. Start later, stop sooner, or filter by --max-idle.",
        episode.index,
        keys.ACTION,
        where_rows(rows, dataset.fps),
    )
