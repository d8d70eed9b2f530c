"""What the topics carry, written into a bag as ROS messages, without ROS."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from moxin_vla.core.clock import NS_PER_S
from moxin_vla.core.embodiment import Embodiment
from moxin_vla.recording import intake
from moxin_vla.recording.intake import absolute


class BagWriter:
    """Writes messages by topic.

    Args:
        writer: rosbags' open Writer.
        embodiment: Gives names and topics.
    """

    def __init__(self, writer: Any, embodiment: Embodiment) -> None:
        from rosbags.typesys import Stores, get_typestore

        self._writer, self._joints = writer, list(embodiment.joint_names)
        self._store = get_typestore(Stores.ROS2_KILTED)
        self._types = self._store.types
        makers = {
            intake.COMMAND: ("trajectory_msgs/msg/JointTrajectory", self._target),
            intake.ACTION: ("trajectory_msgs/msg/JointTrajectory", self._target),
            intake.INSTRUCTION: ("std_msgs/msg/String", self._text),
            intake.EPISODE: ("diagnostic_msgs/msg/DiagnosticStatus", self._status),
            absolute(embodiment.joint_states_topic): ("sensor_msgs/msg/JointState", self._state),
        }
        for camera in embodiment.cameras:
            compressed = camera.topic.endswith("/compressed")
            makers[absolute(camera.topic)] = (
                ("sensor_msgs/msg/CompressedImage", self._compressed)
                if compressed
                else ("sensor_msgs/msg/Image", self._image)
            )
        self._makers = {topic: maker for topic, (_, maker) in makers.items()}
        self._connections = {
            topic: writer.add_connection(topic, kind, typestore=self._store)
            for topic, (kind, _) in makers.items()
        }
        self.count = 0

    def put(self, topic: str, at_ns: int, time_ns: int, content: Any) -> None:
        """Write a message.

        Args:
            topic: One that the embodiment or the recorder knows.
            at_ns: When it comes, by the bag's clock, in [ns].
            time_ns: Its stamp, in [ns].
            content: Pixels, positions, text or values, as the topic has them.
        """
        connection, message = self._connections[topic], self._makers[topic](time_ns, content)
        raw = self._store.serialize_cdr(message, connection.msgtype)
        self._writer.write(connection, at_ns, raw)
        self.count += 1

    def _make(self, kind: str, **fields: Any) -> Any:
        return self._types[kind](**fields)

    def _header(self, time_ns: int, frame_id: str = "") -> Any:
        stamp = self._moment("Time", time_ns)
        return self._make("std_msgs/msg/Header", stamp=stamp, frame_id=frame_id)

    def _moment(self, kind: str, time_ns: int) -> Any:
        seconds, rest = divmod(time_ns, NS_PER_S)
        return self._make(f"builtin_interfaces/msg/{kind}", sec=seconds, nanosec=rest)

    def _image(self, time_ns: int, pixels: NDArray[np.uint8]) -> Any:
        height, width = pixels.shape[:2]
        return self._make(
            "sensor_msgs/msg/Image",
            header=self._header(time_ns),
            height=height,
            width=width,
            encoding="rgb8",
            is_bigendian=0,
            step=width * 3,
            data=np.ascontiguousarray(pixels).reshape(-1),
        )

    def _compressed(self, time_ns: int, pixels: NDArray[np.uint8]) -> Any:
        import cv2

        _, data = cv2.imencode(".png", np.ascontiguousarray(pixels[:, :, ::-1]))
        return self._make(
            "sensor_msgs/msg/CompressedImage",
            header=self._header(time_ns),
            format="png",
            data=data.reshape(-1),
        )

    def _state(self, time_ns: int, positions: NDArray[np.float64]) -> Any:
        nothing = np.array([], np.float64)
        return self._make(
            "sensor_msgs/msg/JointState",
            header=self._header(time_ns),
            name=self._joints,
            position=positions,
            velocity=nothing,
            effort=nothing,
        )

    def _target(self, time_ns: int, content: tuple[str, NDArray[np.float64], int]) -> Any:
        who, positions, age_ns = content
        nothing = np.array([], np.float64)
        point = self._make(
            "trajectory_msgs/msg/JointTrajectoryPoint",
            positions=positions,
            velocities=nothing,
            accelerations=nothing,
            effort=nothing,
            time_from_start=self._moment("Duration", age_ns),
        )
        return self._make(
            "trajectory_msgs/msg/JointTrajectory",
            header=self._header(time_ns, who),
            joint_names=self._joints,
            points=[point],
        )

    def _text(self, time_ns: int, text: str) -> Any:
        return self._make("std_msgs/msg/String", data=text)

    def _status(self, time_ns: int, values: dict[str, Any]) -> Any:
        pairs = [
            self._make("diagnostic_msgs/msg/KeyValue", key=key, value=str(value))
            for key, value in values.items()
        ]
        return self._make(
            "diagnostic_msgs/msg/DiagnosticStatus",
            level=0,
            name="recorder_node",
            message="",
            hardware_id="",
            values=pairs,
        )
