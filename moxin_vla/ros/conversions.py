"""Core types as ROS messages. Stamps are exact in [ns]; floats cross as float64; images cross
without a Python loop. The way back is core/messages.py.
"""

from array import array
from collections.abc import Sequence

import numpy as np
from builtin_interfaces.msg import Duration, Time
from numpy.typing import NDArray
from rosgraph_msgs.msg import Clock as ClockMessage
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from moxin_vla.core.clock import NS_PER_S
from moxin_vla.core.types import ActionChunk, Command


def ns_to_time(time_ns: int) -> Time:
    """Return [ns] as a stamp."""
    return Time(sec=time_ns // NS_PER_S, nanosec=time_ns % NS_PER_S)


def clock_message(time_ns: int) -> ClockMessage:
    """Return a /clock message."""
    return ClockMessage(clock=ns_to_time(time_ns))


def image_message(time_ns: int, frame_id: str, pixels: NDArray[np.uint8]) -> Image:
    """Wrap RGB pixels (h, w, 3). `frombytes` takes 0.04 ms for 640x480; assigning an ndarray takes
    60 to 120.
    """
    message = Image(encoding="rgb8", height=pixels.shape[0], width=pixels.shape[1])
    message.header.stamp, message.header.frame_id = ns_to_time(time_ns), frame_id
    message.step = pixels.shape[1] * 3
    data = array("B")
    data.frombytes(memoryview(np.ascontiguousarray(pixels)).cast("B"))
    message.data = data
    return message


def camera_info_message(
    time_ns: int, frame_id: str, shape: tuple[int, ...], fovy_deg: float
) -> CameraInfo:
    """Describe an ideal pinhole camera with images of `shape` (h, w, 3) and square pixels."""
    height, width = shape[:2]
    focal = height / 2 / float(np.tan(np.deg2rad(fovy_deg) / 2))
    cx, cy = width / 2, height / 2
    message = CameraInfo(height=height, width=width, distortion_model="plumb_bob", d=[0.0] * 5)
    message.header.stamp, message.header.frame_id = ns_to_time(time_ns), frame_id
    message.k = [focal, 0.0, cx, 0.0, focal, cy, 0.0, 0.0, 1.0]
    message.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    message.p = [focal, 0.0, cx, 0.0, 0.0, focal, cy, 0.0, 0.0, 0.0, 1.0, 0.0]
    return message


def joint_state_message(
    time_ns: int, names: Sequence[str], positions: NDArray[np.float64]
) -> JointState:
    """Wrap measured positions (D,), in [rad]."""
    message = JointState(name=list(names), position=array("d", positions))
    message.header.stamp = ns_to_time(time_ns)
    return message


def chunk_message(chunk: ActionChunk, joints: Sequence[str]) -> JointTrajectory:
    """Wrap a chunk: the stamp is its observation's; point i is due when step i ends."""
    message = JointTrajectory(joint_names=list(joints))
    message.header.stamp = ns_to_time(chunk.observation_time_ns)
    for index, action in enumerate(chunk.actions):
        due_ns = (index + 1) * chunk.step_ns
        point = JointTrajectoryPoint(positions=array("d", action))
        point.time_from_start = Duration(sec=due_ns // NS_PER_S, nanosec=due_ns % NS_PER_S)
        message.points.append(point)
    return message


def command_message(command: Command, joints: Sequence[str]) -> JointTrajectory:
    """Wrap a command: stamped with its tick, one point."""
    message = JointTrajectory(joint_names=list(joints))
    message.header.stamp = ns_to_time(command.time_ns)
    message.points.append(JointTrajectoryPoint(positions=array("d", command.positions)))
    return message


def target_message(
    time_ns: int,
    joints: Sequence[str],
    positions: NDArray[np.float64] | None,
    frame_id: str = "",
    age_ns: int = 0,
) -> JointTrajectory:
    """Wrap what somebody wants at a tick: one point (D,), in [rad]; no point for nothing.

    `frame_id` says who; `time_from_start` how old the plan behind it is, in [ns].
    """
    message = JointTrajectory(joint_names=list(joints))
    message.header.stamp, message.header.frame_id = ns_to_time(time_ns), frame_id
    if positions is not None:
        point = JointTrajectoryPoint(positions=array("d", positions))
        point.time_from_start = Duration(sec=age_ns // NS_PER_S, nanosec=age_ns % NS_PER_S)
        message.points.append(point)
    return message


def forward_command_message(command: Command) -> Float64MultiArray:
    """Wrap a command for a ros2_control forward controller: bare positions, embodiment order."""
    return Float64MultiArray(data=array("d", command.positions))
