"""What `ros2 bag record` does, with rosbags: raw messages into an MCAP file as they come."""

import time
from functools import partial

from diagnostic_msgs.msg import DiagnosticStatus
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from moxin_vla.recording.intake import ACTION, COMMAND, EPISODE, INSTRUCTION
from moxin_vla.ros.qos import RECORDING


class BagRecorder:
    """Records the topics of a robot while its node is spun; use as a context manager.

    Args:
        node: Subscribes.
        folder: Where; must not exist.
        embodiment: Names the topics.
    """

    def __init__(self, node, folder, embodiment):
        self._writer = Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP)
        kinds = {camera.topic: Image for camera in embodiment.cameras}
        kinds |= {embodiment.joint_states_topic: JointState, INSTRUCTION: String}
        kinds |= {COMMAND: JointTrajectory, ACTION: JointTrajectory, EPISODE: DiagnosticStatus}
        store = get_typestore(Stores.ROS2_KILTED)
        self._writer.open()
        for topic, kind in kinds.items():
            package, _, name = kind.__module__.split(".")[0], "msg", kind.__name__
            connection = self._writer.add_connection(
                topic, f"{package}/msg/{name}", typestore=store
            )
            node.create_subscription(
                kind, topic, partial(self._write, connection), RECORDING, raw=True
            )

    def _write(self, connection, raw):
        self._writer.write(connection, time.time_ns(), raw)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._writer.close()
