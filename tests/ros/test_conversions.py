import time

import numpy as np
import pytest
from builtin_interfaces.msg import Duration

from moxin_vla.core.embodiment import Embodiment
from moxin_vla.core.errors import ObservationError, PolicyError
from moxin_vla.core.images import decode_raw
from moxin_vla.core.messages import message_to_chunk, message_to_command, time_to_ns
from moxin_vla.core.types import ActionChunk, Command, ControlMode
from moxin_vla.ros.conversions import (
    chunk_message,
    command_message,
    image_message,
    joint_state_message,
    ns_to_time,
)

# a double can't hold this stamp to the nanosecond
AWKWARD_NS = 1_763_913_600_123_456_789


def awkward_chunk(dof: int) -> ActionChunk:
    actions = np.random.default_rng(0).normal(size=(16, dof)) / 3
    return ActionChunk(AWKWARD_NS, 33_333_333, actions)


@pytest.mark.parametrize("time_ns", [0, 1, 999_999_999, 1_000_000_000, AWKWARD_NS])
def test_a_stamp_survives_to_the_nanosecond(time_ns: int) -> None:
    assert time_to_ns(ns_to_time(time_ns)) == time_ns


def test_a_chunk_survives_bit_for_bit(embodiment: Embodiment) -> None:
    chunk = awkward_chunk(embodiment.dof)
    received = message_to_chunk(
        chunk_message(chunk, embodiment.joint_names), embodiment.joint_names
    )
    assert received.observation_time_ns == chunk.observation_time_ns
    assert received.step_ns == chunk.step_ns
    assert np.array_equal(received.actions, chunk.actions)


def test_a_chunk_says_when_each_step_ends(embodiment: Embodiment) -> None:
    chunk = awkward_chunk(embodiment.dof)
    message = chunk_message(chunk, embodiment.joint_names)
    assert time_to_ns(message.header.stamp) == chunk.observation_time_ns
    assert time_to_ns(message.points[0].time_from_start) == chunk.step_ns
    assert time_to_ns(message.points[15].time_from_start) == 16 * chunk.step_ns


def test_a_chunk_with_nan_arrives_so_that_safety_can_refuse_it(embodiment: Embodiment) -> None:
    chunk = ActionChunk(1, 1, np.full((2, embodiment.dof), np.nan))
    received = message_to_chunk(
        chunk_message(chunk, embodiment.joint_names), embodiment.joint_names
    )
    assert np.all(np.isnan(received.actions))


def test_a_chunk_with_permuted_joints_is_refused_with_both_lists(embodiment: Embodiment) -> None:
    permuted = embodiment.joint_names[::-1]
    message = chunk_message(awkward_chunk(embodiment.dof), permuted)
    with pytest.raises(PolicyError) as refusal:
        message_to_chunk(message, embodiment.joint_names)
    assert f"found in the message:       {', '.join(permuted)}" in str(refusal.value)
    assert f"expected by the embodiment: {', '.join(embodiment.joint_names)}" in str(refusal.value)


def test_an_unevenly_spaced_chunk_is_refused(embodiment: Embodiment) -> None:
    message = chunk_message(awkward_chunk(embodiment.dof), embodiment.joint_names)
    message.points[3].time_from_start = Duration(sec=9)
    with pytest.raises(PolicyError, match="must be evenly spaced"):
        message_to_chunk(message, embodiment.joint_names)


def test_a_chunk_without_points_is_refused(embodiment: Embodiment) -> None:
    message = chunk_message(awkward_chunk(embodiment.dof), embodiment.joint_names)
    message.points = []
    with pytest.raises(PolicyError, match="without points"):
        message_to_chunk(message, embodiment.joint_names)


def test_a_command_survives_bit_for_bit(embodiment: Embodiment) -> None:
    positions = np.linspace(-1 / 3, 1 / 7, embodiment.dof)
    command = Command(AWKWARD_NS, positions, ControlMode.RUNNING)
    message = command_message(command, embodiment.joint_names)
    time_ns, received = message_to_command(message, embodiment.joint_names)
    assert time_ns == AWKWARD_NS
    assert np.array_equal(received, positions)


def test_a_trajectory_is_no_command(embodiment: Embodiment) -> None:
    message = chunk_message(awkward_chunk(embodiment.dof), embodiment.joint_names)
    with pytest.raises(ObservationError, match="one point of 6 positions"):
        message_to_command(message, embodiment.joint_names)


def test_joint_states_keep_names_and_doubles(embodiment: Embodiment) -> None:
    positions = np.linspace(-1 / 3, 1 / 7, embodiment.dof)
    message = joint_state_message(AWKWARD_NS, embodiment.joint_names, positions)
    assert tuple(message.name) == embodiment.joint_names
    assert np.array_equal(np.array(message.position), positions)
    assert time_to_ns(message.header.stamp) == AWKWARD_NS


def test_an_image_survives_even_from_a_strided_array() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 60, 3), dtype=np.uint8)[:, ::2]
    message = image_message(AWKWARD_NS, "front_optical_frame", pixels)
    received = decode_raw(
        message.data, message.encoding, message.height, message.width, message.step
    )
    assert np.array_equal(received, pixels)


def test_wrapping_a_vga_image_takes_no_python_loop() -> None:
    pixels = np.zeros((480, 640, 3), dtype=np.uint8)
    took_s = []
    for _ in range(5):
        before = time.perf_counter()
        image_message(0, "front_optical_frame", pixels)
        took_s.append(time.perf_counter() - before)
    assert min(took_s) < 0.01  # assigning the array itself takes 0.06 s and more
