"""Recorded episodes as training samples: an observation and the commands that followed it.

The chunk of row i is `action` of the rows i, i + 1, ... i + H - 1 of its episode; past the end the
last command is held. Images are decoded once into a memory-mapped cache.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moxin_vla.core import dataset as keys
from moxin_vla.core.embodiment import Embodiment
from moxin_vla.core.errors import DependencyError, RecordingError, listed

_FEWEST = 2  # rows


@dataclass(frozen=True, slots=True)
class Recorded:
    """Rows of one dataset. n rows, N cameras, D joints.

    Attributes:
        root: The dataset.
        images: Memory-mapped RGB, uint8, shape (n, N, height, width, 3).
        proprio: Shape (n, D), in [rad].
        chunks: Absolute targets, shape (n, H, D), in [rad].
        counts: 1.0 where a step of a chunk is learned from, else 0.0, shape (n, H).
        tasks: Instruction of each row, as an index into `texts`, shape (n,).
        texts: The instructions.
        usable: Rows with at least one step to learn from, shape (m,).
    """

    root: Path
    images: NDArray[np.uint8]
    proprio: NDArray[np.float32]
    chunks: NDArray[np.float32]
    counts: NDArray[np.float32]
    tasks: NDArray[np.int64]
    texts: tuple[str, ...]
    usable: NDArray[np.int64]


def load_recorded(
    root: Path,
    embodiment: Embodiment,
    horizon: int,
    cache: Path,
    drivers: Sequence[int] = (),
) -> Recorded:
    """Read a dataset, decoding its images into `cache` the first time.

    Args:
        root: A LeRobotDataset v3 of this robot.
        embodiment: Gives cameras, joints and the rate.
        horizon: Steps H of a chunk.
        cache: Folder for decoded images.
        drivers: Learn only from steps that these drove (`Drove`); empty: from all.

    Raises:
        RecordingError: It is no dataset, is of another robot or rate, or holds nothing to learn.
        DependencyError: lerobot is not installed.
    """
    info = _info(root)
    _check(root, info, embodiment, bool(drivers))
    table = _table(root)
    proprio, action = _column(table, keys.PROPRIO), _column(table, keys.ACTION)
    episodes = np.array(table["episode_index"].to_pylist())
    if table["index"].to_pylist() != list(range(len(episodes))) or (np.diff(episodes) < 0).any():
        raise RecordingError(
            f"The rows of '{root}' are not numbered 0, 1, 2, ... over its episodes: a save has "
            f"failed. What is wrong with it: moxin-vla dataset check {root}"
        )
    driver = _column(table, keys.DRIVER).reshape(-1) if drivers else None
    chunks, inside = _chunks(action, episodes, horizon)
    counts = np.ones(inside.shape, np.float32)
    if driver is not None:
        counts = np.isin(driver, list(drivers)).astype(np.float32)[inside]
    usable = np.flatnonzero(counts.any(axis=1))
    if not len(usable):
        raise RecordingError(f"'{root}' holds no row to learn from (drivers: {listed(drivers)}).")
    return Recorded(
        root=root,
        images=_images(root, embodiment, len(proprio), cache),
        proprio=proprio,
        chunks=chunks,
        counts=counts,
        tasks=np.array(table["task_index"].to_pylist()),
        texts=_texts(root),
        usable=usable,
    )


def _info(root: Path) -> dict[str, Any]:
    try:
        return json.loads((root / "meta" / "info.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise RecordingError(f"'{root}' is not a LeRobotDataset: {error}") from None


def _check(root: Path, info: dict[str, Any], embodiment: Embodiment, drivers: bool) -> None:
    """Refuse a dataset of another robot before anything of it is read."""
    features, joints = info["features"], list(embodiment.joint_names)
    wrong = []
    if info["fps"] != embodiment.control_rate_hz:
        wrong.append(f"rate: found {info['fps']} Hz, expected {embodiment.control_rate_hz:g} Hz")
    for key in (keys.PROPRIO, keys.ACTION):
        names = features.get(key, {}).get("names")
        names = names.get("motors") if isinstance(names, dict) else names
        if names != joints:
            wrong.append(f"{key}: found {names}, expected {joints}")
    missing = [c for c in embodiment.camera_names if keys.image_key(c) not in features]
    if missing:
        wrong.append(f"cameras: missing {listed(missing)}")
    if drivers and keys.DRIVER not in features:
        wrong.append(f"{keys.DRIVER}: absent, so nobody knows who drove")
    sizes = {(c.height, c.width) for c in embodiment.cameras}
    if len(sizes) > 1:
        wrong.append(f"cameras: the robot's are of several sizes, expected one: {sorted(sizes)}")
    if info["total_frames"] < _FEWEST:
        wrong.append(f"rows: found {info['total_frames']}, expected at least {_FEWEST}")
    if wrong:
        raise RecordingError(
            f"The dataset '{root}' can't teach the robot '{embodiment.name}':\n  "
            + "\n  ".join(wrong)
        )


def _table(root: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    files = sorted((root / "data").rglob("*.parquet"))
    wanted = [keys.PROPRIO, keys.ACTION, "episode_index", "task_index", "index"]
    tables = []
    try:
        for file in files:
            names = parquet.read_schema(file).names
            here = [name for name in (*wanted, keys.DRIVER) if name in names]
            tables.append(parquet.read_table(file, columns=here))
        return pa.concat_tables(tables).sort_by("index")
    except (pa.ArrowException, OSError) as error:
        raise RecordingError(
            f"The rows of '{root}' can't be read: {error}. "
            f"What is wrong with it: moxin-vla dataset check {root}"
        ) from None


def _column(table: Any, key: str) -> NDArray[Any]:
    values = np.array(table[key].to_pylist())
    return values.astype(np.float32) if values.dtype.kind == "f" else values


def _texts(root: Path) -> tuple[str, ...]:
    import pyarrow.parquet as parquet

    tasks = parquet.read_table(root / "meta" / "tasks.parquet").to_pandas()
    return tuple(tasks.sort_values("task_index").index.tolist())


def _chunks(
    action: NDArray[np.float32], episodes: NDArray[np.int64], horizon: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return each row's chunk, shape (n, H, D), and the rows that it is made of, shape (n, H)."""
    last = np.searchsorted(episodes, episodes, side="right") - 1  # last row of each row's episode
    rows = np.arange(len(action))[:, None] + np.arange(horizon)
    rows = np.minimum(rows, last[:, None])
    return action[rows], rows


def _images(root: Path, embodiment: Embodiment, rows: int, cache: Path) -> NDArray[np.uint8]:
    """Return all images; what was decoded before is mapped."""
    info = (root / "meta" / "info.json").read_bytes()
    views = [(c.name, c.height, c.width) for c in embodiment.cameras]
    files = sorted(f for folder in ("data", "videos") for f in (root / folder).rglob("*.*"))
    stats = [(str(f.relative_to(root)), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    # after a crash info.json may count less; another dataset may have the same info.json
    said = f"{root.resolve()} {rows} {views} {stats} ".encode() + info
    digest = hashlib.sha256(said).hexdigest()[:16]
    file = cache / f"{root.name}_{digest}.npy"
    if not file.is_file():
        _decode(root, embodiment, rows, file)
    return np.load(file, mmap_mode="r")


def _decode(root: Path, embodiment: Embodiment, rows: int, file: Path) -> None:
    try:
        from lerobot.datasets.lerobot_dataset import LeRobotDataset
    except ImportError as error:
        raise DependencyError(
            "Training on recorded data needs lerobot: pip install 'moxin_vla[data]'"
        ) from error
    from moxin_vla.core.images import resized

    file.parent.mkdir(parents=True, exist_ok=True)
    dataset = LeRobotDataset(root.name, root=root, return_uint8=True, video_backend="pyav")
    camera = embodiment.cameras[0]
    shape = (rows, len(embodiment.cameras), camera.height, camera.width, 3)
    partial = file.with_suffix(".part")
    images = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
    for index in range(rows):
        item = dataset[index]
        for number, camera in enumerate(embodiment.cameras):
            pixels = item[keys.image_key(camera.name)].numpy().transpose(1, 2, 0)
            if pixels.dtype != np.uint8:  # PNGs come in [0, 1]
                pixels = np.round(pixels * 255).astype(np.uint8)
            images[index, number] = resized(
                np.ascontiguousarray(pixels), camera.height, camera.width
            )
    images.flush()
    partial.replace(file)


@dataclass(frozen=True, slots=True)
class Samples:
    """Rows drawn for one step; arrays as in `Recorded`, with the text of each instruction."""

    images: NDArray[np.uint8]
    proprio: NDArray[np.float32]
    chunks: NDArray[np.float32]
    counts: NDArray[np.float32]
    texts: list[str]
    where: list[str]  # dataset and row, for messages


class Mixture:
    """Draws rows from several datasets, each with its weight.

    Args:
        datasets: What there is.
        weights: Relative frequency of each; None: as many rows, as often.
        seed: Of the draws.
    """

    def __init__(
        self, datasets: Sequence[Recorded], weights: Sequence[float] | None, seed: int
    ) -> None:
        self._datasets = list(datasets)
        sizes = np.array([len(d.usable) for d in datasets], np.float64)
        shares = sizes if weights is None else np.array(weights, np.float64)
        if not shares.sum() > 0:
            raise RecordingError("No dataset has a weight above 0.")
        self._shares = shares / shares.sum()
        self._rng = np.random.default_rng(seed)

    def __len__(self) -> int:
        return sum(len(d.usable) for d in self._datasets)

    @property
    def state(self) -> dict[str, Any]:
        """Where the draws are; set it to go on from there."""
        return self._rng.bit_generator.state

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        self._rng.bit_generator.state = state

    def draw(self, size: int) -> Samples:
        """Return `size` random rows, with replacement."""
        which = np.sort(self._rng.choice(len(self._datasets), size=size, p=self._shares))
        parts: list[tuple[Recorded, NDArray[np.int64]]] = []
        for number, dataset in enumerate(self._datasets):
            count = int((which == number).sum())
            if count:
                parts.append((dataset, np.sort(self._rng.choice(dataset.usable, size=count))))
        return Samples(
            images=np.concatenate([d.images[rows] for d, rows in parts]),
            proprio=np.concatenate([d.proprio[rows] for d, rows in parts]),
            chunks=np.concatenate([d.chunks[rows] for d, rows in parts]),
            counts=np.concatenate([d.counts[rows] for d, rows in parts]),
            texts=[d.texts[i] for d, rows in parts for i in d.tasks[rows]],
            where=[f"{d.root.name} row {row}" for d, rows in parts for row in rows],
        )
