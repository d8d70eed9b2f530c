"""Single images out of a dataset, without decoding the others."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moxin_vla.core.errors import DependencyError, RecordingError
from moxin_vla.recording.stored import StoredDataset, StoredEpisode

_NEAR_FRAMES = 12  # decoding on is cheaper than a seek up to here


def sampled_rows(rows: int, count: int) -> list[int]:
    """Return at most `count` different rows, evenly spread from the first to the last."""
    return sorted({round(row) for row in np.linspace(0, rows - 1, min(rows, count))})


def episode_images(
    dataset: StoredDataset, episode: StoredEpisode, key: str, rows: Sequence[int]
) -> Iterator[NDArray[np.uint8]]:
    """Yield the images of some rows of an episode: uint8 RGB, shape (height, width, 3).

    Args:
        dataset: Where the episode lies.
        episode: One of its episodes.
        key: Column of the images.
        rows: Rows within the episode, ascending.

    Raises:
        RecordingError: The file is missing, can't be decoded or holds too few images.
    """
    if dataset.features[key]["dtype"] == "image":
        yield from _from_parquet(dataset, episode, key, rows)
    else:
        yield from _from_video(dataset, episode, key, rows)


def _pyav():
    try:
        import av
    except ImportError as error:
        raise DependencyError(
            "Reading videos needs pyav. Install it with: pip install 'moxin_vla[data]'"
        ) from error
    return av


def _from_parquet(
    dataset: StoredDataset, episode: StoredEpisode, key: str, rows: Sequence[int]
) -> Iterator[NDArray[np.uint8]]:
    import pyarrow.parquet as parquet
    from PIL import Image

    numbers = episode.columns["index"]
    wanted = {int(numbers[row]) for row in rows}
    file = dataset.data_file(episode.meta)
    if file is None or not file.is_file():
        raise RecordingError(f"the data file of episode {episode.index} is missing")
    cells: dict[int, dict] = {}
    with parquet.ParquetFile(file) as opened:
        for group in range(opened.num_row_groups):
            held = opened.read_row_group(group, columns=["index"])["index"].to_pylist()
            places = [i for i, number in enumerate(held) if number in wanted]
            if places:
                table = opened.read_row_group(group, columns=[key]).take(places)
                cells |= dict(zip([held[i] for i in places], table[key].to_pylist(), strict=True))
    for row in rows:
        cell = cells.get(int(numbers[row]))
        if cell is None or not (cell.get("bytes") or cell.get("path")):
            raise RecordingError(f"'{key}' has no image at row {row} of episode {episode.index}")
        source = io.BytesIO(cell["bytes"]) if cell.get("bytes") else dataset.root / cell["path"]
        try:
            yield np.asarray(Image.open(source).convert("RGB"))
        except OSError as error:
            raise RecordingError(
                f"the image of '{key}' at row {row} of episode {episode.index} can't be decoded: "
                f"{error}"
            ) from None


def _from_video(
    dataset: StoredDataset, episode: StoredEpisode, key: str, rows: Sequence[int]
) -> Iterator[NDArray[np.uint8]]:
    av = _pyav()
    file = dataset.data_file(episode.meta, key)
    if file is None or not file.is_file():
        raise RecordingError(f"the video of '{key}' of episode {episode.index} is missing")
    start_s = float(episode.meta[f"videos/{key}/from_timestamp"])
    half = 0.5 / dataset.fps
    try:
        with av.open(str(file)) as container:
            stream, frames, last = container.streams.video[0], None, -1
            for row in rows:
                due_s = start_s + row / dataset.fps
                if frames is None or row - last > _NEAR_FRAMES:
                    container.seek(max(0, int((due_s - half) / stream.time_base)), stream=stream)
                    frames = container.decode(stream)
                frame = next((f for f in frames if f.time > due_s - half), None)
                if frame is None or frame.time > due_s + half:
                    raise RecordingError(
                        f"the video of '{key}' has no frame for row {row} of episode "
                        f"{episode.index} ({due_s:.2f} s of {_short(file)})"
                    )
                last = row
                yield frame.to_ndarray(format="rgb24")
    except (OSError, IndexError, av.FFmpegError) as error:
        raise RecordingError(f"{_short(file)} can't be decoded: {error}") from None


def _short(file: Path) -> str:
    return "/".join(file.parts[-4:])
