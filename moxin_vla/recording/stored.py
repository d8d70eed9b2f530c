"""A LeRobotDataset v3 on disk, ours or anybody's, read as it lies there.

lerobot's own loader trusts what it finds: a missing file sends it to the Hub, a missing row shifts
every later one. Here what can't be read is collected as a problem, so that a check can name it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moxin_vla.core.dataset import FINISHED_MARK
from moxin_vla.core.errors import RecordingError, listed
from moxin_vla.recording.columns import column_array, read_rows

VERSION = "v3.0"
# Bookkeeping of lerobot, in every dataset.
BOOKKEEPING = ("timestamp", "frame_index", "episode_index", "index", "task_index")


@dataclass(frozen=True, slots=True)
class StoredEpisode:
    """One episode: what meta says about it, and its rows.

    Attributes:
        index: Its number.
        length: Rows that meta declares; None if meta does not know the episode.
        meta: Its row of meta/episodes, statistics left out.
        columns: Column -> values, shape (n, ...), rows in order of frame_index; no images.
        instructions: The different instructions of its rows, in order; None for an unknown one.
    """

    index: int
    length: int | None
    meta: Mapping[str, Any]
    columns: Mapping[str, NDArray]
    instructions: tuple[str | None, ...]

    @property
    def rows(self) -> int:
        """Rows n that the data files hold."""
        return len(self.columns["episode_index"]) if "episode_index" in self.columns else 0

    def vector(self, key: str) -> NDArray[np.float64] | None:
        """Return a numeric column as (n, D) float64; None if the dataset has no such column."""
        values = self.columns.get(key)
        if values is None:
            return None
        return values.reshape(self.rows, int(np.prod(values.shape[1:]))).astype(np.float64)


class StoredDataset:
    """The dataset in a folder.

    Args:
        root: Folder with `meta/info.json`.

    Raises:
        RecordingError: There is no LeRobotDataset v3.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.info = _read_info(root)
        self.features: dict[str, dict[str, Any]] = self.info["features"]
        self.fps = float(self.info["fps"])
        self.problems: list[str] = []

    @property
    def image_keys(self) -> tuple[str, ...]:
        """Columns that hold images, in declared order."""
        return tuple(k for k, f in self.features.items() if f["dtype"] in ("image", "video"))

    @property
    def numeric_keys(self) -> tuple[str, ...]:
        """Columns that hold numbers."""
        skipped = ("image", "video", "string", "language")
        return tuple(k for k, f in self.features.items() if f["dtype"] not in skipped)

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """What our recorder wrote about itself; empty for other people's datasets."""
        mark = self.root / FINISHED_MARK
        try:
            content = json.loads(mark.read_text(encoding="utf-8")) if mark.is_file() else {}
        except ValueError:
            return {}
        return content if isinstance(content, dict) else {}

    def names(self, key: str) -> tuple[str, ...]:
        """Return the names of a column's dims, as declared; empty if it declares none."""
        names = self.features.get(key, {}).get("names") or ()
        if isinstance(names, Mapping):  # the older form: {"motors": [...]}
            inner = next(iter(names.values()), ())
            # or a place for every name: {"delta_x": 0, ...}
            names = sorted(names, key=names.__getitem__) if isinstance(inner, int) else inner
        return tuple(str(name) for name in names)

    def labels(self, key: str) -> tuple[str, ...]:
        """Return a label for every dim of a column: its name, or its number."""
        names, size = self.names(key), int(np.prod(self.features[key]["shape"]))
        return names if len(names) == size else tuple(str(i) for i in range(size))

    @cached_property
    def episodes(self) -> tuple[StoredEpisode, ...]:
        """Every episode that meta or the rows know, in order; unreadable files are `problems`."""
        described = {int(row["episode_index"]): row for row in self._episode_rows()}
        columns, tasks = self._columns(), self._tasks()
        numbers = columns.get("episode_index", np.empty(0, np.int64))
        order = np.lexsort((columns.get("frame_index", np.zeros(len(numbers))), numbers))
        ordered = numbers[order]
        episodes = []
        for index in sorted({*described, *np.unique(numbers).tolist()}):
            rows = order[slice(*np.searchsorted(ordered, [index, index + 1]))]
            own = {key: values[rows] for key, values in columns.items()}
            episodes.append(self._episode(index, described.get(index), own, tasks))
        return tuple(episodes)

    def data_file(self, row: Mapping[str, Any], key: str = "") -> Path | None:
        """Return the data or video file that an episode's meta row points to; None without."""
        prefix = f"videos/{key}" if key else "data"
        chunk, file = row.get(f"{prefix}/chunk_index"), row.get(f"{prefix}/file_index")
        if chunk is None or file is None:
            return None
        template = self.info.get("video_path" if key else "data_path") or ""
        place = template.format(video_key=key, chunk_index=int(chunk), file_index=int(file))
        return self.root / place

    def _episode(
        self,
        index: int,
        meta: Mapping[str, Any] | None,
        columns: dict[str, NDArray],
        tasks: Mapping[int, str],
    ) -> StoredEpisode:
        numbers = columns.get("task_index", np.empty(0, np.int64)).tolist()
        said = tuple(dict.fromkeys(tasks.get(number) for number in numbers))
        length = None if meta is None else int(meta["length"])
        return StoredEpisode(index, length, meta or {}, columns, said)

    def _files(self, folder: str) -> list[Path]:
        return sorted((self.root / folder).rglob("*.parquet"))

    def _episode_rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for file in self._files("meta/episodes"):
            table = read_rows(file, lambda name: not name.startswith("stats/"), self.problems)
            rows += [] if table is None else table.to_pylist()
        return rows

    def _tasks(self) -> dict[int, str]:
        file = self.root / "meta" / "tasks.parquet"
        table = read_rows(file, None, self.problems)
        if table is None:
            return {}
        text = "task" if "task" in table.column_names else "__index_level_0__"
        return dict(zip(table["task_index"].to_pylist(), table[text].to_pylist(), strict=True))

    def _columns(self) -> dict[str, NDArray]:
        wanted = {*self.numeric_keys, *BOOKKEEPING}
        tables = [
            table
            for file in self._files("data")
            if (table := read_rows(file, wanted.__contains__, self.problems)) is not None
        ]
        columns = {}
        for key in wanted:
            shape = self.features.get(key, {}).get("shape", (1,))
            parts = [column_array(t[key], shape) for t in tables if key in t.column_names]
            if len(parts) == len(tables) and parts and all(p is not None for p in parts):
                columns[key] = np.concatenate(parts)
            else:
                self.problems.append(
                    f"column '{key}' is declared with shape {list(shape)} but does not have it "
                    "in every data file"
                )
        return columns


def _read_info(root: Path) -> dict[str, Any]:
    path = root / "meta" / "info.json"
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise RecordingError(
            f"No dataset at '{root}': '{path.name}' is missing in its meta/. "
            "Expected: the folder of a LeRobotDataset v3"
        ) from None
    except json.JSONDecodeError as error:
        raise RecordingError(f"'{path}' is not valid JSON: {error}") from None
    if missing := [key for key in ("features", "fps") if key not in info]:
        raise RecordingError(f"'{path}' lacks: {listed(missing)}")
    if info.get("codebase_version") != VERSION:
        raise RecordingError(
            f"The dataset at '{root}' has version {info.get('codebase_version')}. "
            f"Expected: {VERSION}. lerobot converts older ones: "
            "python -m lerobot.scripts.convert_dataset_v21_to_v30"
        )
    return info
