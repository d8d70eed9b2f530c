"""From finished LeRobot datasets to batches: images are decoded once into memory-mapped arrays,
then sampled at random.
"""

import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moxin_vla.core import dataset as keys
from moxin_vla.core.dataset import is_finished
from moxin_vla.core.errors import MoxinVlaError

_VECTORS = {
    "proprio": keys.PROPRIO,
    "chunk": keys.EXPERT_CHUNK,
    "named": keys.NAMED_OBJECT,
    "goal": keys.GOAL,
    "pixels": keys.NAMED_OBJECT_PIXELS,
    "driver": keys.DRIVER,
}


@dataclass(frozen=True, slots=True)
class Shard:
    """One dataset, decoded. n frames, N cameras.

    Attributes:
        images: Memory-mapped RGB, uint8, shape (n, N, height, width, 3).
        proprio: Shape (n, D), in [rad].
        chunk: Expert's absolute targets, shape (n, H, D), in [rad].
        named: Named object, shape (n, 3), in [m].
        goal: Where it should go, shape (n, 3), in [m].
        pixels: Named object in each image, shape (n, N, 2), in [0, 1] or -1 if not in view.
        driver: 0 expert, 1 policy, shape (n,).
        instructions: One per frame, as an index into `texts`, shape (n,).
        texts: The instructions.
    """

    images: NDArray[np.uint8]
    proprio: NDArray[np.float32]
    chunk: NDArray[np.float32]
    named: NDArray[np.float32]
    goal: NDArray[np.float32]
    pixels: NDArray[np.float32]
    driver: NDArray[np.int64]
    instructions: NDArray[np.int64]
    texts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.proprio)


def load_shard(root: Path, cameras: tuple[str, ...], cache: Path) -> Shard:
    """Return a finished dataset, decoding it into `cache` the first time.

    Raises:
        MoxinVlaError: The dataset is not finished.
    """
    if not is_finished(root):
        raise MoxinVlaError(f"The dataset at '{root}' was not finished; record it again.")
    directory = cache / root.name
    if not (directory / "texts.json").is_file():
        _decode(root, cameras, directory)
    arrays = {name: np.load(directory / f"{name}.npy") for name in (*_VECTORS, "instructions")}
    texts = json.loads((directory / "texts.json").read_text(encoding="utf-8"))
    arrays["driver"] = arrays["driver"].reshape(-1)
    images = np.load(directory / "images.npy", mmap_mode="r")
    return Shard(images=images, texts=tuple(texts), **arrays)


def _decode(root: Path, cameras: tuple[str, ...], directory: Path) -> None:
    import pyarrow.parquet as parquet
    from PIL import Image

    directory.mkdir(parents=True, exist_ok=True)
    files = sorted((root / "data").rglob("*.parquet"))
    tables = [parquet.read_table(file) for file in files]
    rows = sum(table.num_rows for table in tables)
    info = json.loads((root / "meta" / "info.json").read_text(encoding="utf-8"))["features"]
    shape = info[keys.image_key(cameras[0])]["shape"]
    images = np.lib.format.open_memmap(
        directory / "images.npy", mode="w+", dtype=np.uint8, shape=(rows, len(cameras), *shape)
    )
    for index, camera in enumerate(cameras):
        row = 0
        for table in tables:
            for cell in table[keys.image_key(camera)].to_pylist():
                images[row, index] = np.asarray(
                    Image.open(io.BytesIO(cell["bytes"])).convert("RGB")
                )
                row += 1
    images.flush()
    for name, key in _VECTORS.items():
        np.save(
            directory / f"{name}.npy", np.concatenate([_column(table, key) for table in tables])
        )
    tasks = parquet.read_table(root / "meta" / "tasks.parquet").to_pandas()
    np.save(
        directory / "instructions.npy",
        np.concatenate([t["task_index"].to_numpy() for t in tables]),
    )
    texts = tasks.sort_values("task_index").index.tolist()
    (directory / "texts.json").write_text(json.dumps(texts), encoding="utf-8")


def _column(table, key: str) -> NDArray:
    return np.array(table[key].to_pylist())


@dataclass(frozen=True, slots=True)
class Batch:
    """Random frames as numpy arrays; the fields of `Shard`, with the text of each instruction."""

    images: NDArray[np.uint8]
    proprio: NDArray[np.float32]
    chunk: NDArray[np.float32]
    named: NDArray[np.float32]
    goal: NDArray[np.float32]
    pixels: NDArray[np.float32]
    texts: list[str]


class Sampler:
    """Draws frames uniformly from every shard it knows; shards may be added while it runs."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._shards: list[Shard] = []

    def add(self, shard: Shard) -> None:
        """Make a shard's frames available."""
        self._shards.append(shard)

    def __len__(self) -> int:
        return sum(len(shard) for shard in self._shards)

    def draw(self, size: int) -> Batch:
        """Return `size` random frames, with replacement."""
        offsets = np.cumsum([0, *[len(shard) for shard in self._shards]])
        chosen = np.sort(self._rng.integers(offsets[-1], size=size))
        parts = []
        for shard, start, stop in zip(self._shards, offsets[:-1], offsets[1:], strict=True):
            rows = chosen[(chosen >= start) & (chosen < stop)] - start
            if len(rows):
                parts.append((shard, rows))
        stacked = {
            name: np.concatenate([getattr(shard, name)[rows] for shard, rows in parts])
            for name in ("images", "proprio", "chunk", "named", "goal", "pixels")
        }
        texts = [shard.texts[i] for shard, rows in parts for i in shard.instructions[rows]]
        return Batch(**stacked, texts=texts)
