"""Do meta, rows and videos agree? What lerobot's loader would trip over, or not notice."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from moxin_vla.core import dataset as keys
from moxin_vla.core.errors import RecordingError
from moxin_vla.recording.quality.expected import Expected
from moxin_vla.recording.quality.findings import Finding, Severity
from moxin_vla.recording.staging import count_pictures
from moxin_vla.recording.stored import StoredDataset, StoredEpisode

_RECORD_AGAIN = "Drop the episode with `moxin-vla dataset filter`, or record it again."


def find(dataset: StoredDataset, expected: Expected) -> Iterator[Finding]:
    """Compare row counts of meta, data files and videos; look for short episodes."""
    episodes = dataset.episodes
    for problem in dict.fromkeys(dataset.problems):
        yield Finding(
            Severity.ERROR, problem, "Repair it with the recorder's recovery, or restore the file."
        )
    yield from _totals(dataset)
    for key in (keys.PROPRIO, keys.ACTION):
        if key not in dataset.features:
            yield Finding(
                Severity.ERROR,
                "there is no such column",
                "A policy can't learn from it.",
                None,
                key,
            )
    for episode in episodes:
        yield from _episode(episode)
    for key in dataset.image_keys:
        if dataset.features[key]["dtype"] == "video":
            yield from _videos(dataset, key)


def _totals(dataset: StoredDataset) -> Iterator[Finding]:
    rows = sum(episode.rows for episode in dataset.episodes)
    for name, found, noun in (
        ("total_episodes", len(dataset.episodes), "episodes"),
        ("total_frames", rows, "rows"),
    ):
        declared = dataset.info.get(name)
        if declared != found:
            yield Finding(
                Severity.ERROR,
                f"info.json declares {declared} {noun}, the files hold {found}",
                "The recording was cut off; let the recorder open it once, which recovers it.",
            )
    if not dataset.episodes:
        yield Finding(Severity.ERROR, "there is no episode", "Record some.")


def _episode(episode: StoredEpisode) -> Iterator[Finding]:
    if episode.length is None:
        yield Finding(
            Severity.ERROR,
            f"{episode.rows} rows of an episode that meta does not know: a failed save; "
            "they shift all later rows",
            _RECORD_AGAIN,
            episode.index,
        )
    elif episode.length != episode.rows:
        yield Finding(
            Severity.ERROR,
            f"meta declares {episode.length} rows, the data file holds {episode.rows}",
            _RECORD_AGAIN,
            episode.index,
        )
    if episode.rows < 2:
        yield Finding(
            Severity.ERROR,
            f"only {episode.rows} row(s); statistics of such an episode break lerobot",
            _RECORD_AGAIN,
            episode.index,
        )
    frames = episode.columns.get("frame_index")
    if frames is not None and frames.tolist() != list(range(episode.rows)):
        yield Finding(
            Severity.ERROR,
            "frame_index does not count 0, 1, 2, ...",
            _RECORD_AGAIN,
            episode.index,
            "frame_index",
        )


def _videos(dataset: StoredDataset, key: str) -> Iterator[Finding]:
    """Compare each file's frames with the rows of the episodes that it carries.

    A dropped frame renumbers all later ones: rows then show images of the future, without an
    error at load.
    """
    carried: dict[Path, list[StoredEpisode]] = defaultdict(list)
    for episode in dataset.episodes:
        file = dataset.data_file(episode.meta, key)
        if file is not None:
            carried[file].append(episode)
        elif episode.length is not None:
            yield Finding(
                Severity.ERROR, "meta names no video file", _RECORD_AGAIN, episode.index, key
            )
    for file, episodes in sorted(carried.items()):
        yield from _video(dataset, key, file, episodes)


def _video(
    dataset: StoredDataset, key: str, file: Path, episodes: list[StoredEpisode]
) -> Iterator[Finding]:
    name = file.relative_to(dataset.root).as_posix()
    span = f"episodes {episodes[0].index}-{episodes[-1].index}"
    what, advice = "", "Restore it."
    if not file.is_file():
        what = f"{name} is missing"
    else:
        try:
            frames, rows = count_pictures(file), sum(episode.length or 0 for episode in episodes)
        except RecordingError as error:
            what = str(error)
        else:
            if frames != rows:
                what = (
                    f"{name} holds {frames} frames for {rows} rows: from the lost frame on, every "
                    "row shows the wrong image"
                )
                advice = "Drop these episodes; record with an encoder that keeps up."
    if what:  # of each episode: a filter drops all of them
        for episode in episodes:
            yield Finding(Severity.ERROR, what, advice, episode.index, key, span)
