"""What somebody who records asks for, and what becomes of it: one episode after the other.

start ── take, take, take ... ── stop ── what is still on its way ──> written
                             └── discard ──> gone

Whatever goes wrong ends the episode, says why, and keeps the rows that are good.
"""

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from moxin_vla.core.dataset import Drove
from moxin_vla.core.errors import RecordingError, listed
from moxin_vla.recording.intake import COMMAND, Intake
from moxin_vla.recording.recorder import Recorder, Written
from moxin_vla.recording.rows import Row

_LINGER_S = 0.7  # how long the end of an episode waits for what is still on its way
_QUIET_LOOKS = 3  # in which no tick came: then none is on its way
_SILENT_S = 2.0  # without a command for so long an episode ends


class Answer(NamedTuple):
    """Whether what was asked for is done, and what there is to say about it."""

    done: bool
    text: str


class RecordingSession:
    """Takes messages and orders from one thread; never waits.

    Args:
        intake: Makes rows of messages.
        recorder: Writes rows.
        written: What `recorder` has reported, oldest first; taken from here.
        episodes: How many the dataset has.
        say: Called with what happens, in words; the second argument is True for trouble.
        announce: Called with the bounds of an episode when it begins and ends.
        details: Gives what is stored beside the episode's own counts.
    """

    def __init__(
        self,
        intake: Intake,
        recorder: Recorder,
        written: deque[Written],
        episodes: int,
        say: Callable[[str, bool], None],
        announce: Callable[[Mapping[str, Any]], None],
        details: Callable[[], Mapping[str, Any]],
    ) -> None:
        self._intake, self._rows, self._recorder = intake, intake.rows, recorder
        self._written, self._say, self._announce = written, say, announce
        self._more_details = details
        self.episodes, self.lost = episodes, 0
        self.rows, self.operator_rows, self.success = 0, 0, -1
        self.said, self.trouble = "", ""
        self._end_why, self._end_s, self._heard_s = "", 0.0, 0.0
        self._waits, self._quiet, self._last_ns = False, 0, -1

    @property
    def recording(self) -> bool:
        """Whether an episode is being recorded."""
        return self._recorder.recording

    def start(self) -> Answer:
        """Begin an episode with the next tick."""
        if self.recording and self._end_why:
            return Answer(False, "the last episode is just ending; try again in a moment")
        if self.recording:
            return Answer(False, "an episode is being recorded; stop it first")
        if not self._rows.instruction.strip():
            return Answer(
                False,
                "no instruction: publish it on /policy_node/instruction, or set the parameter",
            )
        try:
            self._recorder.begin()
        except RecordingError as error:
            self.trouble = str(error)
            return Answer(False, self.trouble)
        self._rows.begin(self._rows.last_tick_ns)
        self._announce({"event": "begin", "after_ns": self._rows.last_tick_ns})
        self.rows, self.operator_rows, self.success = 0, 0, -1
        self.trouble, self._end_why, self._heard_s = "", "", time.monotonic()
        text = f"recording episode {self.episodes}"
        if lacks := self._rows.lacks:
            text += f"; nothing yet from: {listed(lacks)}"
        self._tell(text)
        return Answer(True, text)

    def stop(self, up_to_ns: int | None = None, waits: bool = False) -> Answer:
        """End the episode and keep it.

        Args:
            up_to_ns: Ticks up to then belong to it, also those that have not come yet, in [ns];
                None: up to the last one that came.
            waits: Nothing new is commanded now: wait for what comes, however long it takes.
        """
        if not self.recording or self._end_why:
            return Answer(False, "no episode is being recorded")
        self._rows.end_with(self._rows.newest_tick_ns if up_to_ns is None else up_to_ns)
        self._end_why, self._end_s, self._waits = "asked to", time.monotonic(), waits
        self._quiet, self._last_ns = 0, self._rows.newest_tick_ns
        return Answer(True, f"episode {self.episodes} ends with {self.rows} rows")

    def discard(self) -> Answer:
        """End the episode and drop it."""
        if not self.recording:
            return Answer(False, "no episode is being recorded")
        self._rows.end()
        self._end_why = ""
        self._announce({"event": "discard"})
        self._recorder.discard("discarded")
        return Answer(True, f"{self.rows} rows are discarded")

    def mark(self, success: int) -> Answer:
        """Say how the episode went: 1 success, 0 failure; the last word counts."""
        if not self.recording:
            return Answer(False, "no episode is being recorded")
        self.success = success
        word = "success" if success else "failure"
        return Answer(True, f"episode {self.episodes} is marked a {word}")

    def take(self, topic: str, message: Any) -> None:
        """Take a message; what can't be used ends the episode."""
        try:
            self._intake.take(topic, message)
            if topic == COMMAND:
                self._heard_s = time.monotonic()
            if self.recording:
                self._add(self._rows.rows())
        except RecordingError as error:
            self._break(str(error))

    def finish(self, why: str) -> None:
        """End the episode now, keep it, and let it be written."""
        self._rows.end()
        try:
            self._add(self._rows.rows(final=True))
            while self._rows.pending:  # rows before a trouble come first
                self._add(self._rows.rows(final=True))
        except RecordingError as error:
            why = why if why == str(error) else f"{why}; {error}"
        self._end_why = ""
        if not self.rows and self._rows.waits_for:
            lacking = listed(self._rows.waits_for)
            why += f"; nothing that fits the ticks' stamps came from: {lacking}"
        bounds = {"up_to_ns": self._rows.newest_tick_ns, "success": self.success, "why": why}
        self._announce({"event": "end", **bounds})
        self._recorder.finish(self.success, why, self._details())

    def look(self) -> None:
        """Look after what no message tells; to be called some times a second."""
        self.report()
        if not self.recording:
            return
        if self._end_why:
            if self._is_over():
                self.finish(self._end_why)
        elif time.monotonic() - self._heard_s > _SILENT_S and (self.rows or self._rows.pending):
            self._break(f"no command from control_node for {_SILENT_S:g} s")

    def _is_over(self) -> bool:
        """Return whether all that belongs to an episode that was stopped has come."""
        newest_ns = self._rows.newest_tick_ns
        if newest_ns > self._last_ns:
            self._last_ns, self._quiet = newest_ns, 0
            if self._waits:
                self._end_s = time.monotonic()
        self._quiet += 1
        quiet = self._rows.passed_end or self._quiet > _QUIET_LOOKS
        return (quiet and self._rows.pending == 0) or time.monotonic() - self._end_s > _LINGER_S

    def report(self) -> None:
        """Say what has become of episodes since the last time."""
        while self._written:
            written = self._written.popleft()
            if written.index is not None:
                self.episodes = written.index + 1
                self._tell(f"episode {written.index} saved: {written.rows} rows; {written.why}")
            elif written.failed:
                self.lost += not written.waits
                self.trouble = written.why
                if not written.waits:
                    self.trouble = f"the episode of {written.rows} rows is lost: {written.why}"
                self._say(self.trouble, True)
                if written.begun == self._recorder.begun:  # else the next one is being recorded
                    self._rows.end()
                    self._recorder.recording = False
            else:
                self._tell(f"{written.rows} rows dropped: {written.why}")

    def _add(self, rows: list[Row]) -> None:
        self.rows += len(rows)
        self.operator_rows += sum(row.driver is Drove.OPERATOR for row in rows)
        self._recorder.add(rows)

    def _break(self, why: str) -> None:
        self._say(why, True)
        self.trouble = why
        if self.recording:
            self.finish(why)

    def _tell(self, text: str) -> None:
        self.said = text
        self._say(text, False)

    def _details(self) -> dict[str, Any]:
        counts = self._rows.counts
        return {
            "streams": {name: dataclasses.asdict(count) for name, count in counts.items()},
            "ticks before all streams had begun": self._rows.skipped_ticks,
            **self._more_details(),
        }
