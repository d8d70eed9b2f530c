"""Messages of the topics that are recorded, taken by name: the same for live ones and for bags."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from moxin_vla.core.dataset import Drove
from moxin_vla.core.embodiment import Embodiment
from moxin_vla.core.errors import MoxinVlaError, RecordingError, listed
from moxin_vla.core.images import decode_compressed
from moxin_vla.core.joints import JointLookup
from moxin_vla.core.messages import image_pixels, message_to_command, time_to_ns
from moxin_vla.recording.rows import JOINTS, RowAssembler

COMMAND, ACTION = "/control_node/command", "/control_node/action"
INSTRUCTION = "/policy_node/instruction"
EPISODE = "/recorder_node/episode"
_DRIVERS = {"policy": Drove.POLICY, "operator": Drove.OPERATOR}


class Intake:
    """Reads messages and feeds the rows' assembler; used from one thread.

    Args:
        embodiment: Cameras, joints and their topics.
        instruction: What the arm is to do until a topic says something else.
        wants_requests: Whether `/control_node/action` is there, so that rows wait for it.
    """

    def __init__(
        self, embodiment: Embodiment, instruction: str = "", wants_requests: bool = True
    ) -> None:
        self.rows = RowAssembler(embodiment, wants_requests)
        self.rows.instruction = instruction
        self._joints = embodiment.joint_names
        self._lookup = JointLookup(embodiment.joint_names)
        self._leader = JointLookup(embodiment.joint_names)
        self.sensors = {camera.name: camera.topic for camera in embodiment.cameras}
        self.sensors[JOINTS] = embodiment.joint_states_topic
        takers: dict[str, Callable[[Any], None]] = {
            camera.topic: partial(self._image, camera.name) for camera in embodiment.cameras
        }
        takers[embodiment.joint_states_topic] = self._state
        takers |= {COMMAND: self._command, ACTION: self._action, INSTRUCTION: self._instruction}
        self._takers = {absolute(topic): taker for topic, taker in takers.items()}

    @property
    def topics(self) -> list[str]:
        """What it can take, by absolute name."""
        return list(self._takers)

    def take(self, topic: str, message: Any) -> None:
        """Take a message of a topic, named absolutely.

        Raises:
            RecordingError: It can't be read, or the episode can't go on with it.
        """
        try:
            self._takers[topic](message)
        except RecordingError:
            raise
        except MoxinVlaError as error:
            raise RecordingError(f"{topic}: {error}") from error

    def _image(self, camera: str, message: Any) -> None:
        compressed = hasattr(message, "format")
        pixels = decode_compressed(message.data) if compressed else image_pixels(message)
        self.rows.put_image(camera, time_to_ns(message.header.stamp), pixels)

    def _state(self, message: Any) -> None:
        proprio = self._lookup.proprio(list(message.name), message.position)
        self.rows.put_joints(time_to_ns(message.header.stamp), proprio)

    def _command(self, message: Any) -> None:
        if hasattr(message, "position"):  # a leader arm's joint states, in a bag
            positions = self._leader.proprio(list(message.name), message.position)
            self.rows.put_command(time_to_ns(message.header.stamp), positions)
        else:
            tick_ns, positions = message_to_command(message, self._joints)
            if not np.all(np.isfinite(positions)):
                raise RecordingError(f"A command is not finite: {listed(positions)}")
            self.rows.put_command(tick_ns, positions)

    def _action(self, message: Any) -> None:
        driver = _DRIVERS.get(message.header.frame_id, Drove.NOBODY)
        age_ms, positions = -1.0, None
        if message.points:
            _, asked = message_to_command(message, self._joints)
            positions = asked if np.all(np.isfinite(asked)) else None
            if driver is Drove.POLICY:
                age_ms = time_to_ns(message.points[0].time_from_start) / 1e6
        self.rows.put_request(time_to_ns(message.header.stamp), driver, positions, age_ms)

    def _instruction(self, message: Any) -> None:
        self.rows.instruction = message.data.strip() or self.rows.instruction


def absolute(topic: str) -> str:
    """Return a topic's name from the root, as bags have it."""
    return topic if topic.startswith("/") else f"/{topic}"
