"""Messages become rows, one per control tick: aligned by stamp, never from the future.

    front    --o-----o-----o-----o-->      the newest image not newer than the tick
    joints   o-o-o-o-o-o-o-o-o-o-o-->      the newest joint state not newer than the tick
    command  -----|-----|-----|----->      the tick: what safety let through, and who asked for it
                  row   row   row

A row is complete once every stream has got to its tick, or has been waited for long enough. The
same code turns live topics and bags into rows, so both give the same.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moxin_vla.core.clock import NS_PER_S, seconds_to_ns
from moxin_vla.core.dataset import Drove
from moxin_vla.core.embodiment import Embodiment
from moxin_vla.core.errors import RecordingError, listed

type Pixels = NDArray[np.uint8]
type Positions = NDArray[np.float64]

_GRACE_S = 0.5  # a stream that is behind by more is not waited for
_CLOCK_WENT_BACK_NS = NS_PER_S
_EVER_NS = 2**63 - 1
JOINTS = "joint states"


@dataclass(frozen=True, slots=True)
class Row:
    """One control tick of an episode.

    Attributes:
        tick_ns: The tick, in [ns].
        images: Camera name -> uint8 RGB (height, width, 3), as it came.
        image_ns: Camera name -> capture stamp, in [ns], at most `tick_ns`.
        proprio: Measured joint positions, shape (D,), in [rad].
        proprio_ns: Their capture stamp, in [ns], at most `tick_ns`.
        command: What safety let through, shape (D,), in [rad].
        requested: What was asked for before safety, shape (D,), in [rad].
        driver: Who asked.
        chunk_age_ms: Age of the policy's plan; -1 without one.
        instruction: What the arm is to do.
        repeated: Per camera, whether the image is that of the row before.
    """

    tick_ns: int
    images: Mapping[str, Pixels]
    image_ns: Mapping[str, int]
    proprio: Positions
    proprio_ns: int
    command: Positions
    requested: Positions
    driver: Drove
    chunk_age_ms: float
    instruction: str
    repeated: tuple[bool, ...]


@dataclass(slots=True)
class StreamCounts:
    """What became of what one stream delivered during an episode."""

    received: int = 0
    used: int = 0  # in at least one row
    repeated: int = 0  # rows that show the same as the row before
    dropped: int = 0  # a newer one came before the next tick
    late: int = 0  # older than one that had come before


@dataclass(slots=True)
class _Stream[T]:
    """What came from one source and may still be needed, oldest first."""

    counts: StreamCounts = field(default_factory=StreamCounts)
    waiting: deque[tuple[int, T]] = field(default_factory=deque)
    newest_ns: int = -1
    current: tuple[int, T] | None = None  # the newest that is not newer than the last tick
    fresh: bool = False  # whether no row of this episode has shown it
    shown: bool = False  # whether a row of this episode has shown anything

    def put(self, time_ns: int, value: T) -> None:
        if time_ns <= self.newest_ns:
            self.counts.late += 1
            return
        self.newest_ns = time_ns
        self.counts.received += 1
        self.waiting.append((time_ns, value))

    def advance(self, tick_ns: int) -> None:
        if self.current is not None and self.current[0] > tick_ns:
            self.current = None  # of a time before the clock went back
        while self.waiting and self.waiting[0][0] <= tick_ns:
            self.counts.dropped += self.fresh and self.shown
            self.current, self.fresh = self.waiting.popleft(), True

    def show(self) -> bool:
        """Count that a row shows the current value; return whether one did before."""
        self.counts.used += self.fresh
        self.counts.repeated += not self.fresh
        repeated, self.fresh, self.shown = not self.fresh, False, True
        return repeated

    def begin(self) -> None:
        """Count anew; what came before may still be shown, but is no loss if it is not."""
        self.counts, self.fresh, self.shown = StreamCounts(), True, False

    def forget(self) -> None:
        self.waiting.clear()
        self.newest_ns, self.current = -1, None

    def trim(self, keep_ns: int) -> None:
        while self.waiting and self.newest_ns - self.waiting[0][0] > keep_ns:
            self.counts.dropped += self.shown
            self.waiting.popleft()


@dataclass(frozen=True, slots=True)
class _Asked:
    driver: Drove
    positions: Positions | None
    age_ms: float


_NOBODY = _Asked(Drove.NOBODY, None, -1.0)


class RowAssembler:
    """Collects what was published and gives out rows; used from one thread.

    Args:
        embodiment: Cameras, joints and how old their data may be.
        wants_requests: Whether somebody says who asked for what; if not, rows do not wait for it.
    """

    def __init__(self, embodiment: Embodiment, wants_requests: bool = True) -> None:
        self._camera_age_ns = seconds_to_ns(embodiment.watchdog.camera_max_age_s)
        self._proprio_age_ns = seconds_to_ns(embodiment.watchdog.proprio_max_age_s)
        self._keep_ns = self._camera_age_ns + seconds_to_ns(_GRACE_S)
        self._wants_requests = wants_requests
        self.instruction = ""
        self._images = {name: _Stream[Pixels]() for name in embodiment.camera_names}
        self._joints = _Stream[Positions]()
        self._streams: dict[str, _Stream[Any]] = {**self._images, JOINTS: self._joints}
        self._commands: deque[tuple[int, Positions, str]] = deque()
        self._asked: dict[int, _Asked] = {}
        self._sizes: dict[str, tuple[int, ...]] = {}
        self._recording, self._began = False, False
        self.newest_tick_ns, self._after_ns, self._up_to_ns = -1, -1, _EVER_NS  # of this episode
        self.passed_end = False  # whether a tick has come that is later than the last one
        self.last_tick_ns = -1  # that came, in an episode or not
        self.skipped_ticks = 0  # before every stream had delivered something
        self.waits_for: list[str] = []  # what the first row still waits for

    @property
    def counts(self) -> dict[str, StreamCounts]:
        """What became of what each camera and the joints delivered in this episode."""
        return {name: stream.counts for name, stream in self._streams.items()}

    @property
    def pending(self) -> int:
        """Ticks of which no row was made yet."""
        return len(self._commands)

    @property
    def lacks(self) -> list[str]:
        """What has not delivered anything yet."""
        return [name for name, stream in self._streams.items() if stream.newest_ns < 0]

    def begin(self, after_ns: int = -1) -> None:
        """Begin an episode: ticks up to `after_ns`, in [ns], are not part of it.

        What came shortly before is kept: a camera slower than the control rate has delivered what
        the first row shows.
        """
        self._commands.clear()
        self._asked.clear()
        self._sizes.clear()
        for stream in self._streams.values():
            stream.begin()
        self._recording, self._began = True, False
        self.newest_tick_ns, self._after_ns, self.skipped_ticks = -1, after_ns, 0
        self._up_to_ns, self.passed_end, self.waits_for = _EVER_NS, False, []

    def end(self) -> None:
        """Take no more ticks; the rest can still be had by `rows(final=True)`."""
        self._recording = False

    def forget(self) -> None:
        """Forget what streams delivered: the clock begins anew."""
        for stream in self._streams.values():
            stream.forget()

    def end_with(self, tick_ns: int) -> None:
        """Take no ticks later than `tick_ns`, in [ns]; earlier ones may still be on their way."""
        self._up_to_ns = tick_ns

    def put_image(self, camera: str, time_ns: int, pixels: Pixels) -> None:
        """Take an image, uint8 RGB (height, width, 3), captured at `time_ns`.

        Raises:
            RecordingError: Its size is not that of the camera's images before, in this episode.
        """
        known = self._sizes.setdefault(camera, pixels.shape)
        if self._recording and pixels.shape != known:
            found, before = ("x".join(map(str, shape[1::-1])) for shape in (pixels.shape, known))
            raise RecordingError(
                f"Camera '{camera}' changed its resolution from {before} to {found}."
            )
        self._put(self._images[camera], time_ns, pixels)

    def put_joints(self, time_ns: int, proprio: Positions) -> None:
        """Take measured joint positions (D,), in [rad], captured at `time_ns`."""
        self._put(self._joints, time_ns, proprio)

    def put_request(
        self, tick_ns: int, driver: Drove, positions: Positions | None, age_ms: float = -1.0
    ) -> None:
        """Take what was asked for at a tick, (D,) in [rad], before safety; None for nothing."""
        if self._recording:
            self._asked[tick_ns] = _Asked(driver, positions, age_ms)

    def put_command(self, tick_ns: int, positions: Positions) -> None:
        """Take what was commanded at a tick, (D,) in [rad].

        Raises:
            RecordingError: The tick is before one that came already.
        """
        before_ns, self.last_tick_ns = self.last_tick_ns, tick_ns
        if before_ns == self._after_ns and before_ns - tick_ns > _CLOCK_WENT_BACK_NS:
            self._after_ns = -1  # the clock has begun anew since the episode was begun
        if not self._recording or tick_ns <= self._after_ns or tick_ns == self.newest_tick_ns:
            return
        if tick_ns > self._up_to_ns:
            self.passed_end = True
            return
        if tick_ns < self.newest_tick_ns:
            back_s = (self.newest_tick_ns - tick_ns) / NS_PER_S
            raise RecordingError(f"The clock went back by {back_s:.3f} s.")
        self.newest_tick_ns = tick_ns
        self._commands.append((tick_ns, positions, self.instruction))

    def rows(self, final: bool = False) -> list[Row]:
        """Return the rows that are complete, in order, each once.

        Args:
            final: Nothing more will come: wait for nothing.

        Raises:
            RecordingError: A stream is older than allowed. Rows before that were returned earlier,
                or come with the next call.
        """
        complete: list[Row] = []
        while self._commands and (final or self._settled(self._commands[0][0])):
            tick_ns, positions, instruction = self._commands[0]
            if trouble := self._advance(tick_ns):
                if complete:
                    break
                raise RecordingError(trouble)
            self._commands.popleft()
            asked = self._take_request(tick_ns)
            if self._began:
                complete.append(self._row(tick_ns, positions, instruction, asked))
            else:
                self.skipped_ticks += 1
        return complete

    def _put(self, stream: _Stream[Any], time_ns: int, value: Any) -> None:
        under_way = self._recording and self.newest_tick_ns >= 0
        if not under_way and stream.newest_ns - time_ns > _CLOCK_WENT_BACK_NS:
            stream.forget()
        stream.put(time_ns, value)
        if not (self._recording and self._commands):  # else a row may need what is old
            stream.trim(self._keep_ns)

    def _settled(self, tick_ns: int) -> bool:
        """Return whether nothing that a tick's row may show is still on its way."""
        if self.newest_tick_ns - tick_ns > seconds_to_ns(_GRACE_S):
            return True
        if self._wants_requests and tick_ns not in self._asked:
            return False
        return all(stream.newest_ns >= tick_ns for stream in self._streams.values())

    def _advance(self, tick_ns: int) -> str:
        """Bring every stream to a tick; return what is wrong there, or an empty string.

        Idempotent. Before the first row nothing is wrong: what is late to start is waited for.
        """
        ages = {}
        for name, stream in self._streams.items():
            stream.advance(tick_ns)
            if stream.current is not None:
                ages[name] = tick_ns - stream.current[0]
        old = {name: age for name, age in ages.items() if age > self._allowed_ns(name)}
        if not self._began:
            self.waits_for = [n for n in self._streams if n not in ages or n in old]
            self._began = not self.waits_for
            return ""
        if not old:
            return ""
        oldest = max(old, key=lambda name: old[name])
        age_s, allowed_s = (ns / NS_PER_S for ns in (old[oldest], self._allowed_ns(oldest)))
        return (
            f"Nothing new from {listed(old)}: the newest of '{oldest}' is {age_s:.3f} s old, "
            f"allowed {allowed_s:g} s."
        )

    def _allowed_ns(self, name: str) -> int:
        return self._proprio_age_ns if name == JOINTS else self._camera_age_ns

    def _take_request(self, tick_ns: int) -> _Asked:
        asked = self._asked.pop(tick_ns, _NOBODY)
        for passed in [ns for ns in self._asked if ns < tick_ns]:
            del self._asked[passed]
        return asked

    def _row(self, tick_ns: int, command: Positions, instruction: str, asked: _Asked) -> Row:
        repeated = {name: stream.show() for name, stream in self._streams.items()}
        shown = {name: stream.current for name, stream in self._streams.items()}
        images = {name: shown[name] for name in self._images}
        proprio_ns, proprio = shown[JOINTS]
        return Row(
            tick_ns=tick_ns,
            images={name: pixels for name, (_, pixels) in images.items()},
            image_ns={name: time_ns for name, (time_ns, _) in images.items()},
            proprio=proprio,
            proprio_ns=proprio_ns,
            command=command,
            requested=command if asked.positions is None else asked.positions,
            driver=asked.driver,
            chunk_age_ms=asked.age_ms,
            instruction=instruction,
            repeated=tuple(repeated[name] for name in self._images),
        )
