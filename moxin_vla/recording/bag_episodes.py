"""A bag becomes episodes of a dataset, by the code that records live.

Where an episode begins and ends is read from recorder_node's announcements in the bag. A bag
without them is cut where commands pause and where the instruction changes.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from moxin_vla.core.clock import NS_PER_S, seconds_to_ns
from moxin_vla.core.embodiment import Embodiment
from moxin_vla.core.errors import RecordingError
from moxin_vla.core.messages import time_to_ns
from moxin_vla.recording.bags import Bag, Bounds
from moxin_vla.recording.features import as_frame
from moxin_vla.recording.intake import ACTION, COMMAND, INSTRUCTION, Intake
from moxin_vla.recording.interventions import Interventions
from moxin_vla.recording.recorder import Written
from moxin_vla.recording.rows import Row
from moxin_vla.recording.staging import StagedEpisode
from moxin_vla.recording.store import DatasetStore

_PAUSE_S = 2.0  # as live: without a command for so long an episode ends
_LINGER_S = 1.0  # after the last tick: what belongs to it has come by then
_EARLY_NS = NS_PER_S  # before its announcement an episode has no tick
_RATE_TOLERANCE = 0.1
_WHOLE = Bounds(-1)


def convert_bag(
    bag: Bag,
    store: DatasetStore,
    embodiment: Embodiment,
    instruction: str = "",
    source: str = "",
    progress: Callable[[int], None] = lambda messages: None,
) -> list[Written]:
    """Append the episodes of a bag to a dataset; each is durable before the next one begins.

    Args:
        bag: Open.
        store: The dataset.
        embodiment: The robot.
        instruction: What the arm is to do where the bag does not say so.
        source: Stored with each episode: where it comes from.
        progress: Called with the messages read so far.

    Returns:
        What became of each episode.

    Raises:
        RecordingError: The bag is damaged, or the disk or the encoder failed; the episodes before
            are kept.
    """
    writer = _EpisodeWriter(store, embodiment, source)
    intake = Intake(embodiment, instruction, wants_requests=bag.says_who_asked)
    cutter = _Cutter(intake, bag.announced(), writer)
    try:
        for count, (topic, time_ns, message) in enumerate(bag.messages(intake.topics)):
            cutter.take(topic, time_ns, message)
            progress(count)
        cutter.finish("the bag ends")
    finally:
        writer.abandon()
    return writer.written


class _EpisodeWriter:
    """Writes the rows of one episode after the other."""

    def __init__(self, store: DatasetStore, embodiment: Embodiment, source: str) -> None:
        self._store, self._embodiment, self._source = store, embodiment, source
        self._staged: StagedEpisode | None = None
        self._ticks_ns: list[int] = []  # of the present episode
        self.written: list[Written] = []

    def add(self, rows: list[Row]) -> None:
        """Write rows; the first ones begin an episode."""
        for row in rows:
            if not row.instruction:
                raise RecordingError(
                    "Nothing in the bag says what the arm is to do: say it with --instruction."
                )
            if self._staged is None:
                self._staged, self._interventions = self._store.stage(), Interventions()
                self._ticks_ns = []
            self._ticks_ns.append(row.tick_ns)
            note = self._interventions.note(row.driver)
            self._staged.add(as_frame(row, self._embodiment, note))

    def end(self, success: int, why: str, streams: Mapping[str, Any], expected: bool) -> None:
        """End the episode, if there is one, and make it part of the dataset; one without rows is
        told of if there should have been some.
        """
        staged, self._staged = self._staged, None
        if staged is None:
            if expected:
                self.written.append(Written(None, 0, why, failed=True))
            return
        try:
            self._check_rate()
            staged.finish(success)
        except RecordingError as error:
            self._store.drop(staged)
            self.written.append(Written(None, staged.rows, f"{why}; {error}", failed=True))
            return
        details = {
            "embodiment": self._embodiment.name,
            "source": self._source,
            "ended": why,
            "rows": staged.rows,
            "success": success,
            "streams": dict(streams),
        }
        self.written.append(Written(self._store.join(staged, details), staged.rows, why))

    def _check_rate(self) -> None:
        """Refuse commands at another rate than rows are said to have: speeds would be wrong."""
        if len(self._ticks_ns) < 2:
            return
        found_hz = NS_PER_S / float(np.median(np.diff(self._ticks_ns)))
        expected_hz = self._embodiment.control_rate_hz
        if abs(found_hz / expected_hz - 1.0) > _RATE_TOLERANCE:
            raise RecordingError(
                f"Commands come at {found_hz:.1f} Hz, '{self._embodiment.name}' says "
                f"{expected_hz:g} Hz: set control_rate_hz in the embodiment."
            )

    def abandon(self) -> None:
        """Drop an episode that was not ended."""
        if self._staged is not None:
            self._store.drop(self._staged)


@dataclass(slots=True)
class _Place:
    """Where in its episode a bag is."""

    bounds: Bounds
    broken: str = ""  # why no more rows are made
    ended_ns: int | None = None  # when the last tick came, by the bag's clock


class _Cutter:
    """Feeds the intake and cuts what comes out of it into episodes.

    Args:
        intake: Makes rows.
        announced: The episodes; empty: cut where commands pause or the instruction changes.
        writer: Gets the rows.
    """

    def __init__(self, intake: Intake, announced: list[Bounds], writer: _EpisodeWriter) -> None:
        self._intake, self._rows, self._writer = intake, intake.rows, writer
        self._cuts_itself = not announced
        self._left: Iterator[Bounds] = iter(announced or [_WHOLE])
        self._said, self._heard_ns = intake.rows.instruction, 0
        self._place: _Place | None = None
        self._begin()

    def take(self, topic: str, time_ns: int, message: Any) -> None:
        """Take a message that came at `time_ns`, in [ns], by the bag's clock."""
        if self._cuts_itself:
            self._cut(topic, time_ns, message)
        else:
            self._follow(topic, time_ns, message)
            if topic in (COMMAND, ACTION) and self._is_early(time_ns):
                return
        try:
            self._intake.take(topic, message)
        except RecordingError as error:
            self._break(str(error))
        self._pass_on()

    def finish(self, why: str = "") -> None:
        """End the present episode and begin the next one."""
        place = self._place
        if place is None:
            return
        self._rows.end()
        self._pass_on(final=True)
        streams = {name: dataclasses.asdict(count) for name, count in self._rows.counts.items()}
        why = place.broken or place.bounds.why or why
        expected = bool(place.broken) or not self._cuts_itself
        self._writer.end(place.bounds.success, why, streams, expected)
        self._begin()

    def _begin(self) -> None:
        bounds = next(self._left, _WHOLE if self._cuts_itself else None)
        self._place = None if bounds is None else _Place(bounds)
        if bounds is not None:
            if not self._cuts_itself and bounds.after_ns < self._rows.last_tick_ns:
                self._rows.forget()
            self._rows.begin(bounds.after_ns)

    def _follow(self, topic: str, time_ns: int, message: Any) -> None:
        """Find the end of an announced episode, and what comes after it."""
        place = self._place
        if place is None:
            return
        if topic == COMMAND and not self._is_early(time_ns):
            tick_ns = time_to_ns(message.header.stamp)
            if tick_ns > place.bounds.up_to_ns:
                self.finish()
            elif tick_ns == place.bounds.up_to_ns:
                place.ended_ns = time_ns
        elif place.ended_ns is not None and time_ns - place.ended_ns > seconds_to_ns(_LINGER_S):
            self.finish()

    def _is_early(self, time_ns: int) -> bool:
        """Return whether the episode is announced much later: the clock may begin anew before."""
        return self._place is not None and self._place.bounds.begun_ns - time_ns > _EARLY_NS

    def _cut(self, topic: str, time_ns: int, message: Any) -> None:
        """Find out whether a new episode begins here."""
        if topic == COMMAND:
            paused = self._heard_ns and time_ns - self._heard_ns > seconds_to_ns(_PAUSE_S)
            self._heard_ns = time_ns
            if paused:
                self.finish("the commands paused")
        elif topic == INSTRUCTION and (told := message.data.strip()):
            if self._said and told != self._said and self._heard_ns:
                self.finish("the instruction changed")
            self._said = told

    def _break(self, why: str) -> None:
        """Make no more rows; those that are good are kept."""
        if self._place is not None and not self._place.broken:
            self._rows.end()
            self._pass_on(final=True)
            self._place.broken = self._place.broken or why

    def _pass_on(self, final: bool = False) -> None:
        place = self._place
        if place is None or place.broken:
            return
        try:
            rows = self._rows.rows(final)
        except RecordingError as error:
            place.broken = str(error)
            self._rows.end()
            return
        self._writer.add(rows)
        if final and self._rows.pending:  # rows before a trouble come first
            self._pass_on(final)
