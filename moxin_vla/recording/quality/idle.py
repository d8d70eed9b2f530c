"""Does the arm do anything? Rows in which nothing moves teach a policy to wait."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from moxin_vla.core import dataset as keys
from moxin_vla.recording.quality.expected import Expected, robust_range
from moxin_vla.recording.quality.findings import Finding, Severity, where_rows
from moxin_vla.recording.stored import StoredDataset, StoredEpisode

_SLOW = 0.02  # of a joint's range, per second: slower is standing still
_WINDOW_S = 0.5  # an encoder that flickers by its smallest step goes nowhere in so long
_START_S, _END_S, _SHARE = 0.5, 1.0, 0.5


def find(dataset: StoredDataset, expected: Expected) -> Iterator[Finding]:
    """Look for waiting at the start, at the end, and in all."""
    ranges = {key: robust_range(dataset, key) for key in (keys.PROPRIO, keys.ACTION)}
    flicker = smallest_steps(dataset)
    for episode in dataset.episodes:
        still = still_rows(episode, ranges, dataset.fps, flicker)
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
    episode: StoredEpisode,
    ranges: dict[str, NDArray[np.float64]],
    fps: float,
    flicker: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Return which rows neither move nor are told to, shape (n,).

    Args:
        episode: Its rows.
        ranges: Column -> how far each dim moves in all, shape (D,).
        fps: Rows per second.
        flicker: Smallest step of each dim of the proprio, shape (D,).
    """
    still = np.ones(episode.rows, bool)
    for key, spread in ranges.items():
        values = episode.vector(key)
        if values is not None and len(values) > 1:
            speed = np.abs(np.diff(values, axis=0, prepend=values[:1])) * fps
            slow = speed <= _SLOW * np.maximum(spread, 1e-9)
            if key == keys.PROPRIO and flicker.shape == spread.shape:
                slow |= _travel(values, max(1, round(_WINDOW_S * fps / 2))) <= 1.5 * flicker
            still &= slow.all(axis=1)
    return still


def smallest_steps(dataset: StoredDataset) -> NDArray[np.float64]:
    """Return the smallest change of each dim of the proprio: an encoder's tick, shape (D,)."""
    parts = [v for e in dataset.episodes if (v := e.vector(keys.PROPRIO)) is not None]
    steps = [np.abs(np.diff(v, axis=0)) for v in parts if len(v) > 1]
    if not steps:
        return np.empty(0)
    taken = np.concatenate(steps)
    smallest = np.where(taken > 0, taken, np.inf).min(axis=0)
    return np.where(np.isfinite(smallest), smallest, 0.0)


def _travel(values: NDArray[np.float64], half: int) -> NDArray[np.float64]:
    """Return how far each dim gets within `half` rows before and after each row, shape (n, D)."""
    padded = np.pad(values, ((half, half), (0, 0)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1, axis=0)
    return windows.max(axis=-1) - windows.min(axis=-1)


def idle_share(dataset: StoredDataset) -> dict[int, float]:
    """Return per episode the share of rows in which it stands still."""
    ranges = {key: robust_range(dataset, key) for key in (keys.PROPRIO, keys.ACTION)}
    flicker = smallest_steps(dataset)
    return {
        e.index: float(still_rows(e, ranges, dataset.fps, flicker).mean())
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
