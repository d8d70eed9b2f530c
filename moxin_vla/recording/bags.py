"""Bags: rosbag2 folders, .mcap, .db3 and ROS 1 .bag files, read without a ROS install."""

import dataclasses
import itertools
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moxin_vla.core.clock import NS_PER_S
from moxin_vla.core.embodiment import Embodiment
from moxin_vla.core.errors import DependencyError, RecordingError, listed
from moxin_vla.core.messages import time_to_ns
from moxin_vla.recording.intake import ACTION, COMMAND, EPISODE, absolute

_FOREVER_NS = 2**63 - 1
_COMMANDS = ("trajectory_msgs/msg/JointTrajectory", "sensor_msgs/msg/JointState")


@dataclass(frozen=True, slots=True)
class Bounds:
    """One episode of a bag.

    Attributes:
        after_ns: Ticks up to this one, in [ns], are not part of it.
        up_to_ns: Its last tick, in [ns].
        success: 1 yes, 0 no, -1 nobody said.
        why: Why it ends there.
        begun_ns: When it was announced, by the bag's clock, in [ns].
    """

    after_ns: int
    up_to_ns: int = _FOREVER_NS
    success: int = -1
    why: str = ""
    begun_ns: int = 0


class Bag:
    """An open bag; use as a context manager.

    Args:
        path: Folder or file.
        embodiment: Says which topics are read.
        command: Topic of the commands: a JointTrajectory with one point each, or the joint states
            of a leader arm.

    Raises:
        RecordingError: It is no bag, or topics that rows are made of are not in it.
        DependencyError: rosbags is not installed.
    """

    def __init__(self, path: Path, embodiment: Embodiment, command: str = COMMAND) -> None:
        try:
            from rosbags.highlevel import AnyReader
            from rosbags.typesys import Stores, get_typestore
        except ImportError as error:
            raise DependencyError(
                "Bags need rosbags. Install it with: pip install 'moxin_vla[data]'"
            ) from error
        self._path, self._embodiment = path, embodiment
        self._renamed, self._unstamped = {absolute(command): COMMAND}, False
        try:
            self._reader = AnyReader([path], default_typestore=get_typestore(Stores.ROS2_KILTED))
            self._reader.open()
        except Exception as error:  # whatever a damaged file breaks
            raise RecordingError(f"'{path}' can't be read as a bag: {error}") from error
        self._check()
        first = itertools.islice(self.messages([COMMAND]), 2)  # a clock may begin with 0
        self._unstamped = not any(time_to_ns(message.header.stamp) for _, _, message in first)

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
                topic = self._name(connection.topic)
                if topic == COMMAND and self._unstamped:
                    message = stamped(message, time_ns)
                yield topic, time_ns, message
        except Exception as error:  # whatever a damaged file breaks
            raise RecordingError(f"The bag '{self._path}' is damaged: {error}") from error

    def announced(self) -> list[Bounds]:
        """Return the episodes that recorder_node announced and did not discard, in order."""
        found: list[Bounds] = []
        after_ns: int | None = None
        begun_ns = 0
        for _, time_ns, message in self.messages([EPISODE]):
            values = {pair.key: pair.value for pair in message.values}
            if values["event"] == "begin":
                after_ns, begun_ns = int(values["after_ns"]), time_ns
                continue
            if values["event"] == "end" and after_ns is not None:
                up_to_ns, success = int(values["up_to_ns"]), int(values["success"])
                why = values["why"]
                found.append(Bounds(after_ns, up_to_ns, success, why, begun_ns))
            after_ns = None
        if after_ns is not None:
            why = "the bag ends before the episode"
            found.append(Bounds(after_ns, why=why, begun_ns=begun_ns))
        return found

    @property
    def says_who_asked(self) -> bool:
        """Whether control_node's requests are in it."""
        return self._has(ACTION)

    def _check(self) -> None:
        """Close the bag and refuse it if it lacks something."""
        try:
            self._refuse_what_lacks()
        except RecordingError:
            self._reader.close()
            raise

    def _refuse_what_lacks(self) -> None:
        sensors = [camera.topic for camera in self._embodiment.cameras]
        wanted = [absolute(t) for t in (*sensors, self._embodiment.joint_states_topic)]
        missing = [topic for topic in (*wanted, COMMAND) if not self._has(topic)]
        if missing:
            held = sorted({c.topic for c in self._reader.connections})
            raise RecordingError(
                f"The bag '{self._path}' lacks topics that rows are made of.\n"
                f"  missing: {listed(missing)}\n"
                f"  in the bag: {listed(held)}\n"
                "Name the embodiment whose topics these are with --embodiment, and another topic "
                "of commands with --command-topic."
            )
        for connection in self._reader.connections:
            if self._name(connection.topic) == COMMAND and connection.msgtype not in _COMMANDS:
                raise RecordingError(
                    f"'{connection.topic}' is a {connection.msgtype}, which has no stamp or no "
                    f"joint names. Commands are read from: {listed(_COMMANDS)}"
                )

    def _has(self, topic: str) -> bool:
        return any(self._name(c.topic) == topic and c.msgcount for c in self._reader.connections)

    def _name(self, topic: str) -> str:
        return self._renamed.get(topic, topic)


def stamped(message: Any, time_ns: int) -> Any:
    """Return a command with the time it came at, in [ns], as its stamp."""
    sec, nanosec = divmod(time_ns, NS_PER_S)
    stamp = dataclasses.replace(message.header.stamp, sec=sec, nanosec=nanosec)
    return dataclasses.replace(message, header=dataclasses.replace(message.header, stamp=stamp))
