"""Time: missing ticks, images from the future or too old, repeats that nobody counted."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from moxin_vla.core.clock import NS_PER_S
from moxin_vla.recording.quality.expected import Expected
from moxin_vla.recording.quality.findings import Finding, Severity, where_rows
from moxin_vla.recording.stored import StoredDataset, StoredEpisode

TICK, STAMP, REPEATED = "stamp.tick", "stamp.", "record.repeated"
_LOADER_TOLERANCE_S = 1e-4  # lerobot's own
_OLD_S = 1.0  # without an embodiment that says it
_MANY_REPEATS = 0.5


def find(dataset: StoredDataset, expected: Expected) -> Iterator[Finding]:
    """Hold the stamps against the rate; without stamps only lerobot's synthetic time is left."""
    for episode in dataset.episodes:
        if episode.rows < 2:
            continue
        yield from _synthetic(dataset, episode)
        ticks = episode.columns.get(TICK)
        if ticks is not None:
            yield from _ticks(dataset, episode, ticks)
            yield from _ages(dataset, episode, ticks, expected)
        yield from _repeats(dataset, episode)


def _synthetic(dataset: StoredDataset, episode: StoredEpisode) -> Iterator[Finding]:
    times = episode.columns.get("timestamp")
    if times is None:
        return
    ideal = np.arange(episode.rows) / dataset.fps
    # float32 seconds: an episode of hours is as exact as float32 is
    off = np.abs(times - ideal) > _LOADER_TOLERANCE_S + np.spacing(np.float32(ideal))
    if off.any():
        yield Finding(
            Severity.ERROR,
            f"timestamp is not frame_index / {dataset.fps:g} in {int(off.sum())} rows",
            "lerobot picks images by it; write the dataset anew.",
            episode.index,
            "timestamp",
            where_rows(np.flatnonzero(off), dataset.fps),
        )


def _ticks(dataset: StoredDataset, episode: StoredEpisode, ticks: NDArray) -> Iterator[Finding]:
    steps = np.diff(ticks) * (dataset.fps / NS_PER_S)  # in control periods
    if np.any(steps <= 0):
        yield Finding(
            Severity.ERROR,
            "the clock goes back or stands still",
            "Drop the episode, or split it there.",
            episode.index,
            TICK,
            where_rows(np.flatnonzero(steps <= 0) + 1, dataset.fps),
        )
    gaps = np.flatnonzero(steps > 1.5)
    if len(gaps):
        missing = int(np.sum(np.round(steps[gaps]) - 1))
        longest_s = float(steps.max() / dataset.fps)
        yield Finding(
            Severity.ERROR if longest_s > 0.5 else Severity.WARNING,
            f"{missing} ticks are missing in {len(gaps)} gaps, the longest {longest_s:.2f} s",
            "A chunk learned across a gap is too fast. Split or drop the episode.",
            episode.index,
            TICK,
            where_rows(gaps + 1, dataset.fps),
        )
    elif abs(float(np.median(steps)) - 1.0) > 0.1:
        yield Finding(
            Severity.ERROR,
            f"ticks are {np.median(steps):.2f} periods of {dataset.fps:g} Hz apart",
            "The declared fps is not the rate it was recorded at.",
            episode.index,
            TICK,
        )


def _ages(
    dataset: StoredDataset, episode: StoredEpisode, ticks: NDArray, expected: Expected
) -> Iterator[Finding]:
    for key in (k for k in episode.columns if k.startswith(STAMP) and k != TICK):
        ages_s = (ticks - episode.columns[key]) / NS_PER_S
        if np.any(ages_s < 0):
            yield Finding(
                Severity.ERROR,
                f"stamped up to {-ages_s.min() * 1e3:.1f} ms after the tick: from the future",
                "A policy never sees it in time. Record with alignment by capture stamp.",
                episode.index,
                key,
                where_rows(np.flatnonzero(ages_s < 0), dataset.fps),
            )
        allowed_s = _allowed_s(key, expected)
        if np.any(ages_s > allowed_s):
            yield Finding(
                Severity.WARNING,
                f"up to {ages_s.max():.2f} s old, allowed {allowed_s:.2f} s",
                "Look at the driver or the network; drop the episode.",
                episode.index,
                key,
                where_rows(np.flatnonzero(ages_s > allowed_s), dataset.fps),
            )


def _allowed_s(key: str, expected: Expected) -> float:
    if expected.embodiment is None:
        return _OLD_S
    watchdog = expected.embodiment.watchdog
    return watchdog.proprio_max_age_s if key == "stamp.proprio" else watchdog.camera_max_age_s


def _repeats(dataset: StoredDataset, episode: StoredEpisode) -> Iterator[Finding]:
    """Check the recorder's own count of repeats against the stamps, and say when it is high."""
    repeated = episode.columns.get(REPEATED)
    if repeated is None:
        return
    repeated = repeated.reshape(episode.rows, -1).astype(bool)  # (n, C)
    for index, camera in enumerate(key.rpartition(".")[2] for key in dataset.image_keys):
        if index >= repeated.shape[1]:
            return
        stamps = episode.columns.get(STAMP + camera)
        if stamps is not None:
            same = np.diff(stamps) == 0
            uncounted = np.flatnonzero(same & ~repeated[1:, index]) + 1
            if len(uncounted):
                yield Finding(
                    Severity.ERROR,
                    f"{len(uncounted)} images have the stamp of the row before and are not "
                    "counted as repeated",
                    "The recorder lies about its losses; do not trust this episode.",
                    episode.index,
                    STAMP + camera,
                    where_rows(uncounted, dataset.fps),
                )
        share = float(repeated[:, index].mean())
        if share > 0:
            yield Finding(
                Severity.WARNING if share > _MANY_REPEATS else Severity.NOTE,
                f"{share:.0%} of the images repeat the row before ({camera})",
                "The camera is slower than the control rate, or loses images.",
                episode.index,
                REPEATED,
                where_rows(np.flatnonzero(repeated[:, index]), dataset.fps),
            )
