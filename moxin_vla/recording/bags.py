"""Bags: rosbag2 folders, .mcap, .db3 and ROS 1 .bag files, read without a ROS install."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moxin_vla.core.embodiment import Embodiment
from moxin_vla.core.errors import DependencyError, RecordingError, listed
from moxin_vla.recording.intake import ACTION, COMMAND, EPISODE, absolute

_FOREVER_NS = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Bounds:
    """One episode of a bag.

    Attributes:
        after_ns: Ticks up to this one, in [ns], are not part of it.
        up_to_ns: Its last tick, in [ns].
        success: 1 yes, 0 no, -1 nobody said.
        why: Why it ends there.
    """

    after_ns: int
    up_to_ns: int = _FOREVER_NS
    success: int = -1
    why: str = ""


class Bag:
    """An open bag; use as a context manager.

    Args:
        path: Folder or file.
        embodiment: Says which topics are read.
        command: Topic of the commands, a JointTrajectory with one point each.

    Raises:
        RecordingError: It is no bag, or topics that rows are made of are not in it.
        DependencyError: rosbags is not installed.
    """

    def __init__(self, path: Path, embodiment: Embodiment, command: str = COMMAND) -> None:
        try:
            from rosbags.highlevel import AnyReader, AnyReaderError
            from rosbags.typesys import Stores, get_typestore
        except ImportError as error:
            raise DependencyError(
                "Bags need rosbags. Install it with: pip install 'moxin_vla[data]'"
            ) from error
        self._path, self._embodiment = path, embodiment
        self._renamed = {absolute(command): COMMAND}
        try:
            self._reader = AnyReader([path], default_typestore=get_typestore(Stores.ROS2_KILTED))
            self._reader.open()
        except (AnyReaderError, OSError, ValueError) as error:
            raise RecordingError(f"'{path}' can't be read as a bag: {error}") from error
        self._check()

    def __enter__(self) -> "Bag":
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()

    def messages(self, topics: Collection[str]) -> Iterator[tuple[str, int, Any]]:
        """Yield topic, time of arrival in [ns], and message of these topics, as they came.

        Raises:
            RecordingError: The bag is damaged.
        """
        wanted = [c for c in self._reader.connections if self._name(c.topic) in topics]
        try:
            for connection, time_ns, raw in self._reader.messages(connections=wanted):
                message = self._reader.deserialize(raw, connection.msgtype)
                yield self._name(connection.topic), time_ns, message
        except (ValueError, OSError, KeyError) as error:
            raise RecordingError(f"The bag '{self._path}' is damaged: {error}") from error

    def announced(self) -> list[Bounds]:
        """Return the episodes that recorder_node announced and did not discard, in order."""
        found: list[Bounds] = []
        after_ns: int | None = None
        for _, _, message in self.messages([EPISODE]):
            values = {pair.key: pair.value for pair in message.values}
            if values["event"] == "begin":
                after_ns = int(values["after_ns"])
                continue
            if values["event"] == "end" and after_ns is not None:
                up_to_ns, success = int(values["up_to_ns"]), int(values["success"])
                found.append(Bounds(after_ns, up_to_ns, success, values["why"]))
            after_ns = None
        if after_ns is not None:
            found.append(Bounds(after_ns, why="the bag ends before the episode"))
        return found

    @property
    def says_who_asked(self) -> bool:
        """Whether control_node's requests are in it."""
        return self._has(ACTION)

    def _check(self) -> None:
        sensors = [camera.topic for camera in self._embodiment.cameras]
        wanted = [absolute(t) for t in (*sensors, self._embodiment.joint_states_topic)]
        missing = [topic for topic in (*wanted, COMMAND) if not self._has(topic)]
        if missing:
            held = sorted({c.topic for c in self._reader.connections})
            self._reader.close()
            raise RecordingError(
                f"The bag '{self._path}' lacks topics that rows are made of.\n"
                f"  missing: {listed(missing)}\n"
                f"  in the bag: {listed(held)}\n"
                "Name the embodiment whose topics these are with --embodiment, and another topic "
                "of commands with --command-topic."
            )

    def _has(self, topic: str) -> bool:
        return any(self._name(c.topic) == topic for c in self._reader.connections)

    def _name(self, topic: str) -> str:
        return self._renamed.get(topic, topic)
