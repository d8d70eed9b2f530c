"""One episode on its way to the disk: written by lerobot's writer as a dataset of its own.

lerobot's files become readable only when its writer is closed, and a frame that its encoder drops
shifts all later images. So an episode is written aside, counted, and only then joins the dataset.
"""

import contextlib
import logging
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from moxin_vla.core.dataset import SUCCESS
from moxin_vla.core.errors import RecordingError
from moxin_vla.recording.codec import Codec

_QUEUE = 60  # pictures per camera that may wait for the encoder
_PATIENCE_S = 30.0  # an encoder that takes nothing for so long is stuck
PER_CHUNK = 1000  # files in a folder
_SMALLEST = 2  # rows: with one, lerobot writes statistics it can't read again
_DATA, _EPISODES = "data/chunk-000/file-000.parquet", "meta/episodes/chunk-000/file-000.parquet"


class StagedEpisode:
    """An episode that is being written; from one thread.

    Args:
        folder: Where; must not exist.
        root: The dataset that it will join: gives indices, tasks and statistics so far.
        codec: How images are stored.
    """

    def __init__(self, folder: Path, root: Path, codec: Codec) -> None:
        _quiet()
        from lerobot.datasets.io_utils import load_info, load_stats, load_tasks
        from lerobot.datasets.lerobot_dataset import LeRobotDataset

        info = load_info(root)
        self.folder, self._codec = folder, codec
        self._cameras = [key for key, f in info.features.items() if f["dtype"] == "video"]
        self._dataset = LeRobotDataset.create(
            repo_id=root.name,
            fps=info.fps,
            features=info.features,
            root=folder,
            robot_type=info.robot_type,
            streaming_encoding=True,
            encoder_queue_maxsize=_QUEUE,
            rgb_encoder=codec.encoder(),
            encoder_threads=codec.threads(len(self._cameras)),
            image_writer_threads=0 if self._cameras else 2,
        )
        meta = self._dataset.meta
        meta.info = info
        if info.total_episodes:
            meta.tasks, meta.stats = load_tasks(root), load_stats(root)
        self._dataset.clear_episode_buffer()  # made anew, with the right episode index
        self.index, self.first_row = info.total_episodes, info.total_frames
        self.number = max(self.index, _next_number(root))
        self.rows = 0

    def add(self, frame: dict[str, Any]) -> None:
        """Write a row; waits while the encoder is behind.

        Raises:
            RecordingError: The disk or the encoder failed.
        """
        try:
            self._wait_for_encoder()
            self._dataset.add_frame(frame)
        except (OSError, RuntimeError, ValueError) as error:
            raise RecordingError(f"A row can't be written: {error}") from error
        self.rows += 1

    def finish(self, success: int) -> None:
        """Write what is left and count everything.

        Args:
            success: 1 yes, 0 no, -1 nobody said.

        Raises:
            RecordingError: Too few rows, or rows, pictures and images differ in number.
        """
        if self.rows < _SMALLEST:
            raise RecordingError(f"It has {self.rows} rows; an episode needs {_SMALLEST}.")
        try:
            buffer = self._dataset.writer.episode_buffer
            buffer[SUCCESS] = [np.array([success], np.int64)] * self.rows
            with _embedding_in_batches():
                self._dataset.save_episode()
            self._dataset.finalize()
        except (OSError, RuntimeError, ValueError) as error:
            raise RecordingError(f"The episode can't be written: {error}") from error
        self._count()

    def abandon(self) -> None:
        """Stop writing and delete what was written."""
        with contextlib.suppress(Exception):
            self._dataset.clear_episode_buffer()
            self._dataset.finalize()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def data(self) -> Path:
        """The rows."""
        return self.folder / _DATA

    @property
    def episodes(self) -> Path:
        """The episode's entry in the list of episodes."""
        return self.folder / _EPISODES

    def video(self, key: str) -> Path:
        """The images of a camera, by feature name."""
        return self.folder / f"videos/{key}/chunk-000/file-000.mp4"

    @property
    def cameras(self) -> list[str]:
        """Features that are stored as video."""
        return self._cameras

    def _wait_for_encoder(self) -> None:
        """Wait until no queue of the encoder is full: it drops what it can't take, in silence."""
        encoder = self._dataset.writer._streaming_encoder
        started_s = time.monotonic()
        while encoder is not None and any(
            queue.full() and encoder._threads[key].is_alive()
            for key, queue in encoder._frame_queues.items()
        ):
            time.sleep(0.002)
            if time.monotonic() - started_s > _PATIENCE_S:
                raise RecordingError(f"The encoder has taken nothing for {_PATIENCE_S:g} s.")

    def _count(self) -> None:
        """Compare rows given, rows written, and pictures in each video."""
        import pyarrow.parquet as parquet

        written = parquet.read_metadata(self.data).num_rows
        pictures = {key: count_pictures(self.video(key)) for key in self._cameras}
        wrong = {key: n for key, n in pictures.items() if n != self.rows}
        if written != self.rows or wrong:
            raise RecordingError(
                f"Of {self.rows} rows {written} were written, and these pictures: {pictures}."
            )


def _next_number(root: Path) -> int:
    """Return a file number after all that a dataset has: parts of others keep the numbers that
    their files had there.
    """
    found = [
        PER_CHUNK * int(file.parent.name[6:]) + int(file.stem[5:])
        for folder in ("data", "videos", "meta/episodes")
        for file in (root / folder).rglob("chunk-*/file-*")
        if file.parent.name[6:].isdigit() and file.stem[5:].isdigit()
    ]
    return max(found, default=-1) + 1


@contextlib.contextmanager
def _embedding_in_batches() -> Iterator[None]:
    """Have lerobot put images into its table many at a time, not row by row: the same table, and
    the end of a long episode does not take seconds of the interpreter from those who capture.
    """
    from datasets.table import embed_table_storage
    from lerobot.datasets import dataset_writer

    def embed(dataset: Any) -> Any:
        kinds = {type(kind).__name__ for kind in dataset.features.values()}
        if "Image" not in kinds:
            return dataset
        embedded = dataset.with_format("arrow").map(
            embed_table_storage, batched=True, batch_size=32
        )
        return embedded.with_format(**dataset.format)

    theirs, dataset_writer.embed_images = dataset_writer.embed_images, embed
    try:
        yield
    finally:
        dataset_writer.embed_images = theirs


def _quiet() -> None:
    """Keep libraries from writing to the terminal: what matters is counted here."""
    import av
    import datasets

    logging.getLogger("lerobot").setLevel(logging.ERROR)
    av.logging.set_libav_level(av.logging.ERROR)
    datasets.disable_progress_bars()


def count_pictures(video: Path) -> int:
    """Count the pictures in a video file, without decoding them.

    Raises:
        RecordingError: It can't be read.
    """
    import av
    from av.error import FFmpegError

    try:
        with av.open(str(video)) as container:
            return sum(packet.size > 0 for packet in container.demux(video=0))
    except (FFmpegError, OSError, IndexError) as error:
        raise RecordingError(f"The video '{video.name}' can't be read: {error}") from error
