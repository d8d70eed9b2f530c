"""Do the cameras see what happens? Frozen and blank pictures, by a sample of each episode."""

import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from moxin_vla.core import dataset as keys
from moxin_vla.core.errors import RecordingError
from moxin_vla.recording.pixels import episode_images, sampled_rows
from moxin_vla.recording.quality.expected import Expected
from moxin_vla.recording.quality.findings import Finding, Severity, where_rows
from moxin_vla.recording.stored import StoredDataset, StoredEpisode

_SAMPLES = 16  # pictures per camera and episode
_EPISODES = 100  # of a large dataset, evenly spread
_SAME = 0.15  # mean difference of pixel values: a codec's noise on one and the same picture
_MOVED = 0.15  # of a joint's range: an arm that moves so far is seen moving
_BLANK = 2.0  # standard deviation of pixel values
_SEVERAL = 3  # frozen steps in a row: fewer may be an arm that came back


def find(dataset: StoredDataset, expected: Expected) -> Iterator[Finding]:
    """Look for a picture that stays while the joints move, and for pictures of nothing."""
    episodes = [e for e in dataset.episodes if e.rows > 1]
    if not episodes:
        return
    ranges = _ranges(episodes)
    for number in sampled_rows(len(episodes), _EPISODES):
        for key in dataset.image_keys:
            try:
                yield from _episode(dataset, episodes[number], key, ranges)
            except RecordingError as error:
                yield Finding(
                    Severity.ERROR, str(error), "Restore it.", episodes[number].index, key
                )


def _ranges(episodes: list[StoredEpisode]) -> NDArray[np.float64]:
    """Return how far each joint moves in all, shape (D,); empty without proprio."""
    parts = [v for e in episodes if (v := e.vector(keys.PROPRIO)) is not None]
    return np.ptp(np.concatenate(parts), axis=0) if parts else np.empty(0)


def _episode(
    dataset: StoredDataset, episode: StoredEpisode, key: str, ranges: NDArray[np.float64]
) -> Iterator[Finding]:
    rows = sampled_rows(episode.rows, _SAMPLES)
    images = [image.astype(np.int16) for image in episode_images(dataset, episode, key, rows)]
    blank = [row for row, image in zip(rows, images, strict=True) if image.std() < _BLANK]
    if blank:
        yield Finding(
            Severity.ERROR if len(blank) > len(rows) / 2 else Severity.WARNING,
            f"{len(blank)} of {len(rows)} sampled pictures show nothing",
            "Look at the camera: its cap, its exposure, its cable.",
            episode.index,
            key,
            where_rows(blank, dataset.fps),
        )
    proprio = episode.vector(keys.PROPRIO)
    if proprio is None or len(blank) == len(rows):
        return
    same = [float(np.abs(b - a).mean()) < _SAME for a, b in itertools.pairwise(images)]
    for first, last in _runs(same):
        piece = proprio[rows[first] : rows[last] + 1]
        moved = np.ptp(piece, axis=0) > _MOVED * np.maximum(ranges, 1e-9)
        if last - first >= _SEVERAL and moved.any():
            joint = dataset.labels(keys.PROPRIO)[int(np.argmax(np.ptp(piece, axis=0)))]
            yield Finding(
                Severity.ERROR,
                f"the picture stands still while {joint} moves {np.ptp(piece, axis=0).max():.2f}",
                "The camera froze. Drop the episode.",
                episode.index,
                key,
                where_rows(np.arange(rows[first], rows[last] + 1), dataset.fps),
            )


def _runs(flags: list[bool]) -> Iterator[tuple[int, int]]:
    """Yield the pictures (first, last) between which all neighbours are alike."""
    start = None
    for index, flag in enumerate([*flags, False]):
        if flag and start is None:
            start = index
        elif not flag and start is not None:
            yield start, index
            start = None
