"""ROS messages by their fields only, as `Intake` reads them."""

from types import SimpleNamespace as Fields

import numpy as np

from tests.recording.episodes import ROBOT

NS = 1_000_000_000
STEP = ROBOT.step_ns


def header(time_ns, frame_id=""):
    return Fields(stamp=Fields(sec=time_ns // NS, nanosec=time_ns % NS), frame_id=frame_id)


def image(time_ns, level=100, size=96):
    data = np.full(size * size * 3, level, np.uint8)
    return Fields(
        header=header(time_ns), encoding="rgb8", height=size, width=size, step=size * 3, data=data
    )


def joints(time_ns, at=0.1, names=ROBOT.joint_names):
    return Fields(header=header(time_ns), name=list(names), position=[at] * len(names))


def target(time_ns, at=0.2, who=""):
    point = Fields(positions=[at] * 6, time_from_start=Fields(sec=0, nanosec=0))
    return Fields(header=header(time_ns, who), joint_names=list(ROBOT.joint_names), points=[point])


def tick(k, who="policy"):
    """Return topic and message of everything that one tick brings."""
    time_ns = k * STEP
    yield from ((camera.topic, image(time_ns, k % 200)) for camera in ROBOT.cameras)
    yield ROBOT.joint_states_topic, joints(time_ns, at=k / 1000)
    yield "/control_node/action", target(time_ns, 0.3, who)
    yield "/control_node/command", target(time_ns)
