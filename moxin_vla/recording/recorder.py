"""Writes episodes in a thread of its own, so that encoding never holds up what is captured.

begin ─ add, add, add ... ─ finish ─> written, counted, part of the dataset
                          └ discard ─> gone
"""

import logging
import queue
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from moxin_vla.core.embodiment import Embodiment
from moxin_vla.core.errors import RecordingError
from moxin_vla.recording.features import as_frame
from moxin_vla.recording.interventions import Interventions
from moxin_vla.recording.rows import Row
from moxin_vla.recording.staging import StagedEpisode
from moxin_vla.recording.store import DatasetStore

_MOST_WAITING_BYTES = 1_000_000_000
_LEAST_FREE_BYTES = 500_000_000
_LOOK_S = 1.0  # between looks at the disk

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Written:
    """What became of an episode.

    Attributes:
        index: Its index in the dataset; None if it is not part of it.
        rows: How many rows it has.
        why: Why it ended, or why it is not part of the dataset.
        failed: Whether something broke.
        waits: Whether it is safe all the same, and joins the dataset later.
        begun: Which of the recorder's episodes it was, counted from 1.
    """

    index: int | None
    rows: int
    why: str
    failed: bool = False
    waits: bool = False
    begun: int = 0


@dataclass(slots=True)
class _Job:
    """An order to the writing thread: rows, or the end of the episode."""

    rows: Sequence[Row] = ()
    begins: bool = False
    ends: bool = False
    keep: bool = True
    why: str = ""
    success: int = -1
    details: dict[str, Any] = field(default_factory=dict)
    size: int = 0
    begun: int = 0


class Recorder:
    """Takes rows from one thread and writes them in another; never makes the caller wait.

    Args:
        store: The dataset; only the writing thread uses it from now on.
        embodiment: The robot.
        on_written: Called from the writing thread when an episode has become what it becomes.
        most_waiting_bytes: Pixels that may wait to be written.
        least_free_bytes: An episode ends when less is left on the disk.
    """

    def __init__(
        self,
        store: DatasetStore,
        embodiment: Embodiment,
        on_written: Callable[[Written], None] = lambda written: None,
        most_waiting_bytes: int = _MOST_WAITING_BYTES,
        least_free_bytes: int = _LEAST_FREE_BYTES,
    ) -> None:
        self._store, self._embodiment, self._on_written = store, embodiment, on_written
        self._most, self._least_free = most_waiting_bytes, least_free_bytes
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._waiting, self._count_lock = 0, threading.Lock()
        self._looked_s = 0.0
        self.recording, self.begun = False, 0
        self._thread = threading.Thread(target=self._work, name="writer")
        self._thread.start()

    @property
    def waiting_bytes(self) -> int:
        """Pixels that wait to be written."""
        return self._waiting

    def begin(self) -> None:
        """Begin an episode.

        Raises:
            RecordingError: The disk is too full.
        """
        self._look_at_disk(now=True)
        self.recording = True
        self.begun += 1
        self._put(_Job(begins=True))

    def add(self, rows: Sequence[Row]) -> None:
        """Add rows to the episode.

        Raises:
            RecordingError: Writing can't keep up, or the disk is nearly full. What was added until
                now, these rows too, can still be kept.
        """
        size = sum(sum(pixels.nbytes for pixels in row.images.values()) for row in rows)
        if rows:
            self._put(_Job(rows=rows, size=size))
        if self._waiting > self._most:
            raise RecordingError(
                f"Writing can't keep up: {self._waiting / 1e6:.0f} MB wait for the encoder "
                f"'{self._store.codec.name}'. Record smaller images or fewer cameras."
            )
        self._look_at_disk()

    def finish(self, success: int, why: str, details: dict[str, Any]) -> None:
        """End the episode and keep it.

        Args:
            success: 1 yes, 0 no, -1 nobody said.
            why: Why it ends.
            details: Stored with it.
        """
        self.recording = False
        self._put(_Job(ends=True, success=success, why=why, details=details))

    def discard(self, why: str) -> None:
        """End the episode and drop it."""
        self.recording = False
        self._put(_Job(ends=True, keep=False, why=why))

    def close(self) -> None:
        """Write what is waiting, drop an episode that was not ended, close the dataset."""
        if self.recording:
            self.discard("the recorder was closed")
        self._jobs.put(None)
        self._thread.join()
        self._store.close()

    def _put(self, job: _Job) -> None:
        job.begun = self.begun
        with self._count_lock:
            self._waiting += job.size
        self._jobs.put(job)

    def _look_at_disk(self, now: bool = False) -> None:
        if not now and time.monotonic() - self._looked_s < _LOOK_S:
            return
        self._looked_s = time.monotonic()
        try:
            free = shutil.disk_usage(self._store.root).free
        except OSError as error:
            raise RecordingError(f"The dataset's disk is gone: {error}") from error
        if free < self._least_free:
            raise RecordingError(
                f"The disk is nearly full: {free / 1e6:.0f} MB left, "
                f"{self._least_free / 1e6:.0f} MB are kept free to end an episode safely."
            )

    def _work(self) -> None:
        """The writing thread: one job after the other, whatever happens to an episode."""
        staged: StagedEpisode | None = None
        intervened = Interventions()
        while (job := self._jobs.get()) is not None:
            try:
                if job.begins:
                    staged, intervened = self._store.stage(), Interventions()
                elif job.ends and staged is not None:
                    staged = self._end(staged, job)
                elif staged is not None:
                    for row in job.rows:
                        frame = as_frame(row, self._embodiment, intervened.note(row.driver))
                        staged.add(frame)
            except Exception as error:
                staged = self._fail(staged, error, job)
            finally:
                with self._count_lock:
                    self._waiting -= job.size
        if staged is not None:
            staged.abandon()

    def _end(self, staged: StagedEpisode, job: _Job) -> None:
        if not job.keep:
            staged.abandon()
            self._on_written(Written(None, staged.rows, job.why, begun=job.begun))
            return
        staged.finish(job.success)
        details = job.details | {"ended": job.why, "rows": staged.rows, "success": job.success}
        index = self._store.join(staged, details)
        self._on_written(Written(index, staged.rows, job.why, begun=job.begun))

    def _fail(self, staged: StagedEpisode | None, error: Exception, job: _Job) -> None:
        known = isinstance(error, RecordingError)
        log.log(logging.ERROR, "%s", error, exc_info=None if known else error)
        rows, waits = 0, False
        if staged is not None:
            rows, waits = staged.rows, not self._store.drop(staged)
        why = str(error) if known else f"{type(error).__name__}: {error}"
        if job.why:
            why = f"{why} It ended: {job.why}"
        self._on_written(Written(None, rows, why, failed=True, waits=waits, begun=job.begun))
