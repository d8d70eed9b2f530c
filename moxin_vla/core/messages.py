"""ROS messages by their fields, as core types: live ones and those from a bag read alike.

Stamps are exact in [ns]; floats cross as float64; images share memory where the layout allows it.
Nothing of ROS is imported: whatever library made a message, its fields have these names.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moxin_vla.core.clock import NS_PER_S
from moxin_vla.core.errors import ObservationError, PolicyError, listed
from moxin_vla.core.images import decode_raw
from moxin_vla.core.types import ActionChunk


def time_to_ns(stamp: Any) -> int:
    """Return a stamp or duration in [ns]."""
    return stamp.sec * NS_PER_S + stamp.nanosec


def image_pixels(message: Any) -> NDArray[np.uint8]:
    """Return an image's pixels as RGB (h, w, 3); shares memory with the message where it can.

    Raises:
        ObservationError: The encoding is unknown, or the sizes contradict each other.
    """
    return decode_raw(message.data, message.encoding, message.height, message.width, message.step)


def message_to_chunk(message: Any, joints: Sequence[str]) -> ActionChunk:
    """Unwrap a chunk.

    Raises:
        PolicyError: Names, number of points or their spacing are not what a chunk has.
    """
    _check_names(message, joints, PolicyError)
    if not message.points:
        raise PolicyError("An action chunk without points arrived.")
    if any(len(point.positions) != len(joints) for point in message.points):
        raise PolicyError(f"Every point of a chunk must hold {len(joints)} positions.")
    due = [time_to_ns(point.time_from_start) for point in message.points]
    step_ns = due[0]
    if step_ns <= 0 or any(t != (i + 1) * step_ns for i, t in enumerate(due)):
        raise PolicyError(
            "The points of a chunk must be evenly spaced, the first one step after the stamp."
        )
    return ActionChunk(
        observation_time_ns=time_to_ns(message.header.stamp),
        step_ns=step_ns,
        actions=np.array([point.positions for point in message.points]),
    )


def message_to_command(message: Any, joints: Sequence[str]) -> tuple[int, NDArray[np.float64]]:
    """Return a command's tick in [ns] and positions (D,), in [rad]; raises ObservationError if it
    is not one.
    """
    _check_names(message, joints, ObservationError)
    if len(message.points) != 1 or len(message.points[0].positions) != len(joints):
        raise ObservationError(f"A command holds one point of {len(joints)} positions.")
    return time_to_ns(message.header.stamp), np.array(message.points[0].positions)


def message_to_target(message: Any, joints: Sequence[str], now_ns: int) -> NDArray[np.float64]:
    """Return the newest of an operator's points that is due at `now_ns`, (D,) in [rad]; else the
    first. Raises ObservationError if the message is not a trajectory of these joints.
    """
    _check_names(message, joints, ObservationError)
    if any(len(point.positions) != len(joints) for point in message.points):
        raise ObservationError(f"Every point must hold {len(joints)} positions.")
    passed_ns = now_ns - time_to_ns(message.header.stamp)
    due = [p for p in message.points if time_to_ns(p.time_from_start) <= passed_ns]
    return np.array((due or message.points[:1])[-1].positions)


def _check_names(
    message: Any, joints: Sequence[str], kind: type[PolicyError | ObservationError]
) -> None:
    if list(message.joint_names) != list(joints):
        raise kind(
            "Joints differ.\n"
            f"  found in the message:       {listed(message.joint_names)}\n"
            f"  expected by the embodiment: {listed(joints)}"
        )
