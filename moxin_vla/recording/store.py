"""The dataset on disk: episodes join it one by one, each wholly or not at all.

    ROOT/.recording/NNNNNN/           an episode being written; dropped at the next start
    ROOT/.recording/NNNNNN/READY      complete and flushed; its files only have to be put in place
    ROOT/data, videos, meta           what any reader of LeRobotDataset v3 sees

Every file is put in place by a rename, `info.json` last. At any moment a reader finds a dataset
that it can load; a start after a crash goes on with the renames where they ended.
"""

import fcntl
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from moxin_vla.core.dataset import FINISHED_MARK
from moxin_vla.core.errors import DependencyError, RecordingError
from moxin_vla.recording.codec import Codec
from moxin_vla.recording.files import flush, put, write_json
from moxin_vla.recording.staging import PER_CHUNK, StagedEpisode
from moxin_vla.recording.stored import BOOKKEEPING, StoredDataset

_STAGE, _PART, _READY, _JOINED = ".recording", ".part", "READY", ".joined"
_META = ("meta/tasks.parquet", "meta/stats.json", "meta/info.json")  # in the order of renaming


class DatasetStore:
    """A dataset that grows; one process at a time. Use as a context manager.

    Args:
        root: Folder of the dataset; made if it is not there, else extended.
        features: lerobot's declaration of what each row holds.
        fps: Rows per second.
        robot_type: Name of the embodiment.
        metadata: Written into `meta/moxin_vla.json` of a new dataset.
        codec: How images are stored.

    Raises:
        RecordingError: The folder holds something else, another robot's data, or is in use.
        DependencyError: lerobot is not installed.
    """

    def __init__(
        self,
        root: Path,
        features: Mapping[str, dict],
        fps: int,
        robot_type: str,
        metadata: Mapping[str, Any],
        codec: Codec,
    ) -> None:
        try:
            import lerobot.datasets.lerobot_dataset  # noqa: F401
        except ImportError as error:
            raise DependencyError(
                "Recording needs lerobot. Install it with: pip install 'moxin_vla[data]'"
            ) from error
        try:
            root = root.resolve()
            self.root, self.codec = root, codec
            if not (root / "meta" / "info.json").is_file():
                self._create(features, fps, robot_type, metadata)
            self._stage = root / _STAGE
            self._stage.mkdir(exist_ok=True)
            self._lock = self._locked()
        except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
            raise RecordingError(f"'{root}' can't be recorded into: {error}") from error
        try:
            _check(root, features, fps, robot_type)
            self.recovered = self._recover()  # what the last session left behind, in words
        except OSError as error:
            self.close()
            raise RecordingError(f"'{root}' can't be recorded into: {error}") from error
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "DatasetStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let others use the dataset. Idempotent."""
        if not self._lock.closed:
            self._lock.close()

    @property
    def episodes(self) -> int:
        """How many episodes the dataset has."""
        return _info(self.root)["total_episodes"]

    def stage(self) -> StagedEpisode:
        """Begin to write the next episode; only one at a time.

        Raises:
            RecordingError: The disk failed.
        """
        try:
            self._recover()
            folder = self._stage / f"{self.episodes:06d}"
            return StagedEpisode(folder, self.root, self.codec)
        except OSError as error:
            raise RecordingError(f"An episode can't be begun: {error}") from error

    def join(self, staged: StagedEpisode, details: Mapping[str, Any]) -> int:
        """Make a finished episode part of the dataset; from then on it is durable.

        Args:
            staged: The episode, finished.
            details: What `meta/recording/NNNNNN.json` shall say about it.

        Returns:
            Its index.

        Raises:
            RecordingError: The disk failed.
        """
        try:
            prepare(staged, details)
        except OSError as error:
            raise RecordingError(f"The episode can't be stored: {error}") from error
        try:
            put_in_place(staged.folder, self.root)
        except OSError as error:
            raise RecordingError(
                f"The episode is safe in '{staged.folder}' and joins the dataset with the next "
                f"one, or at the next start. Now it can't: {error}"
            ) from error
        return staged.index

    def drop(self, staged: StagedEpisode) -> bool:
        """Delete an episode that is not to be kept; one that is ready stays: returns False."""
        if (staged.folder / _READY).is_file():
            return False
        staged.abandon()
        return True

    def _create(
        self, features: Mapping[str, dict], fps: int, robot_type: str, metadata: Mapping[str, Any]
    ) -> None:
        """Make an empty dataset, complete from the moment it is there. A folder that is there
        stays: it may be a disk of its own, or where somebody works.
        """
        from lerobot.datasets.dataset_metadata import LeRobotDatasetMetadata

        if self.root.exists() and any(path.name != _PART for path in self.root.iterdir()):
            raise RecordingError(
                f"'{self.root}' is not empty and not a dataset. Name a new folder, or a "
                "LeRobotDataset v3 to extend."
            )
        part = self.root / _PART
        shutil.rmtree(part, ignore_errors=True)
        self.root.mkdir(parents=True, exist_ok=True)
        video = any(feature["dtype"] == "video" for feature in features.values())
        LeRobotDatasetMetadata.create(
            self.root.name, fps, dict(features), robot_type, part, use_videos=video
        )
        write_json(part / FINISHED_MARK, dict(metadata))
        flush(part / "meta" / "info.json")
        (part / "meta").replace(self.root / "meta")
        part.rmdir()
        flush(self.root)
        flush(self.root.parent)

    def _locked(self) -> Any:
        lock = (self._stage / "lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.close()
            raise RecordingError(f"Somebody else is recording into '{self.root}'.") from error
        except OSError:
            lock.close()
            raise
        return lock

    def _recover(self) -> list[str]:
        """Finish what is ready, drop what is not; return both in words."""
        done = []
        for folder in sorted(path for path in self._stage.iterdir() if path.is_dir()):
            if folder.name.endswith(_JOINED):
                shutil.rmtree(folder)
            elif (folder / _READY).is_file():
                put_in_place(folder, self.root)
                done.append(f"episode {folder.name.lstrip('0') or 0} was complete and is kept")
            else:
                shutil.rmtree(folder)
                done.append(f"episode {folder.name.lstrip('0') or 0} was cut off and is dropped")
        return done


def prepare(staged: StagedEpisode, details: Mapping[str, Any]) -> None:
    """Flush everything that an episode will add and say so: from here on it can't be lost."""
    folder, index = staged.folder, staged.index
    chunk, file = divmod(staged.number, PER_CHUNK)
    place = f"chunk-{chunk:03d}/file-{file:03d}"
    _say_where(staged)
    note = folder / "details.json"
    write_json(note, dict(details))
    moves = [
        *((staged.video(key), f"videos/{key}/{place}.mp4") for key in staged.cameras),
        (note, f"meta/recording/{index:06d}.json"),
        (folder / _META[0], _META[0]),
        (staged.data, f"data/{place}.parquet"),
        (staged.episodes, f"meta/episodes/{place}.parquet"),
        *((folder / name, name) for name in _META[1:]),
    ]
    moves = [(source, target) for source, target in moves if source.exists()]  # tasks: if new
    for source, _ in moves:
        flush(source)
        flush(source.parent)
    write_json(
        folder / _READY,
        [[str(source.relative_to(folder)), target] for source, target in moves],
    )


def put_in_place(folder: Path, root: Path) -> None:
    """Rename the files of a prepared episode into the dataset; may be repeated after a crash."""
    for source, target in json.loads((folder / _READY).read_text(encoding="utf-8")):
        if (folder / source).exists():
            put(folder / source, root / target)
    joined = folder.with_name(folder.name + _JOINED)  # no crash can take what is left for a part
    folder.rename(joined)
    shutil.rmtree(joined)


def _say_where(staged: StagedEpisode) -> None:
    """Put into the episode's entry where its files and rows will be."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    table = parquet.read_table(staged.episodes)
    chunk, file = divmod(staged.number, PER_CHUNK)
    for column, name in enumerate(table.column_names):
        value = {
            "dataset_from_index": staged.first_row,
            "dataset_to_index": staged.first_row + staged.rows,
        }.get(name)
        value = chunk if name.endswith("/chunk_index") else value
        value = file if name.endswith("/file_index") else value
        if value is not None:
            kind = table.schema.field(name).type
            table = table.set_column(column, name, pa.array([value], kind))
    beside = staged.episodes.with_suffix(".part")
    parquet.write_table(table, beside)
    beside.replace(staged.episodes)


def _info(root: Path) -> dict[str, Any]:
    return json.loads((root / "meta" / "info.json").read_text(encoding="utf-8"))


def _check(root: Path, features: Mapping[str, dict], fps: int, robot_type: str) -> None:
    """Refuse to extend a dataset of another robot, or of rows that hold something else."""
    info = StoredDataset(root).info
    found = {"robot": info.get("robot_type"), "rows per second": info["fps"]}
    expected: dict[str, Any] = {"robot": robot_type, "rows per second": fps}
    for name, feature in features.items():
        theirs = info["features"].get(name)
        ours = f"{feature['dtype']} {tuple(feature['shape'])} {feature['names'] or ''}"
        expected[name] = ours.strip()
        found[name] = "absent"
        if theirs is not None:
            names = theirs.get("names") or ""
            found[name] = f"{theirs['dtype']} {tuple(theirs['shape'])} {names}".strip()
    for name in info["features"].keys() - {*features, *BOOKKEEPING}:
        expected[name], found[name] = "absent", "a column that is not recorded"
    wrong = [name for name in expected if found[name] != expected[name]]
    if wrong:
        lines = [f"  {name}: found {found[name]}, expected {expected[name]}" for name in wrong]
        raise RecordingError(
            f"The dataset at '{root}' can't be extended with this robot:\n" + "\n".join(lines)
        )
