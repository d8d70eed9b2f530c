"""Gamepads: a topic's messages and a device file give the same."""

import os
import struct

import numpy as np
import pytest

from moxin_vla.core.clock import seconds_to_ns
from moxin_vla.teleop.base import Mode, OperatorEvent, TeleopError
from moxin_vla.teleop.gamepad import PadOptions
from moxin_vla.teleop.joy import Joy
from moxin_vla.teleop.joystick import Joystick

REST = [0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0]
LB = 4


def buttons(*down: int) -> list[int]:
    return [int(number in down) for number in range(11)]


def axes(**moved: float) -> list[float]:
    values = list(REST)
    for name, value in moved.items():
        values[int(name[1:])] = value
    return values


@pytest.fixture
def joy(embodiment):
    device = Joy(embodiment, PadOptions())
    device.put(REST, buttons(), 0)
    return device


def test_nothing_moves_before_the_first_message(embodiment):
    wanted = Joy(embodiment, PadOptions()).poll(Mode.JOINT, 0)
    assert not wanted.held and not np.any(wanted.joints)


def test_the_dead_man_is_a_button(joy):
    joy.put(axes(_1=1.0), buttons(), 1)
    assert not joy.poll(Mode.JOINT, 1).held
    joy.put(axes(_1=1.0), buttons(LB), 2)
    assert joy.poll(Mode.JOINT, 2).held


def test_another_dead_man_can_be_chosen(embodiment):
    joy = Joy(embodiment, PadOptions(dead_man=0))
    joy.put(REST, buttons(0), 0)
    assert joy.poll(Mode.JOINT, 0).held
    assert joy.keys(Mode.JOINT)[0] == ("hold button 0", "dead-man: take over and drive")


def test_a_pad_that_falls_silent_is_released(joy):
    joy.put(REST, buttons(LB), seconds_to_ns(1.0))
    assert joy.poll(Mode.JOINT, seconds_to_ns(1.5)).held
    assert not joy.poll(Mode.JOINT, seconds_to_ns(1.51)).held


def test_sticks_move_the_end_effector(joy):
    joy.put(axes(_1=1.0, _0=-1.0, _4=0.56, _3=1.0, _7=-1.0), buttons(LB), 1)
    wanted = joy.poll(Mode.END_EFFECTOR, 1)
    assert wanted.twist.tolist() == pytest.approx([1.0, -1.0, 0.5, 0.0, -1.0, 1.0])


def test_sticks_move_joints_in_order(joy):
    joy.put(axes(_0=1.0, _4=-1.0), buttons(LB), 1)
    assert joy.poll(Mode.JOINT, 1).joints.tolist() == [1.0, 0.0, -1.0, 0.0, 0.0]


def test_a_stick_at_rest_is_never_quite_at_zero_and_moves_nothing(joy):
    joy.put(axes(_0=0.11, _1=-0.12), buttons(LB), 1)
    assert not np.any(joy.poll(Mode.JOINT, 1).joints)


def test_triggers_open_and_close(joy):
    joy.put(axes(_5=-1.0), buttons(LB), 1)
    assert joy.poll(Mode.JOINT, 1).gripper == -1.0
    joy.put(axes(_2=0.0), buttons(LB), 2)
    assert joy.poll(Mode.JOINT, 2).gripper == 0.5


def test_a_trigger_that_was_never_seen_at_rest_does_nothing(embodiment):
    joy = Joy(embodiment, PadOptions())
    joy.put([0.0] * 8, buttons(LB), 1)  # as drivers report before a trigger has moved
    assert joy.poll(Mode.JOINT, 1).gripper == 0.0


def test_a_button_is_one_event_however_long_it_is_held(joy):
    for time_ns in range(1, 5):
        joy.put(REST, buttons(0, 5), time_ns)
    assert joy.poll(Mode.JOINT, 5).events == (OperatorEvent.SUCCESS, OperatorEvent.GIVE_BACK)
    assert joy.poll(Mode.JOINT, 6).events == ()


def test_a_short_press_between_two_ticks_is_not_lost(joy):
    joy.put(REST, buttons(7), 1)
    joy.put(REST, buttons(), 2)
    assert joy.poll(Mode.JOINT, 3).events == (OperatorEvent.START,)


def test_a_small_pad_is_no_error(embodiment):
    joy = Joy(embodiment, PadOptions())
    joy.put([1.0], [0, 0, 0, 0, 1], 1)
    assert joy.poll(Mode.JOINT, 1).joints.tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]


def test_options_out_of_range_are_refused():
    with pytest.raises(TeleopError, match=r"dead_zone must be in 0 \.\. 1.*Got: 1.5, 4, 0.5"):
        PadOptions(dead_zone=1.5)


@pytest.fixture
def device_file(tmp_path, embodiment):
    """A FIFO in place of /dev/input/js0: (what the kernel writes to, the device)."""
    path = tmp_path / "js0"
    os.mkfifo(path)
    kernel = os.open(path, os.O_RDWR)
    device = Joystick(embodiment, PadOptions(), str(path))
    device.open()
    yield kernel, device
    device.close()
    os.close(kernel)


def event(kind: int, number: int, value: int) -> bytes:
    return struct.pack("<IhBB", 1234, value, kind, number)


def test_a_device_file_means_what_the_topic_means(device_file, joy):
    kernel, device = device_file
    resting = b"".join(event(0x82, n, round(-v * 32767)) for n, v in enumerate(REST))
    os.write(kernel, resting + event(1, LB, 1) + event(2, 1, -32767) + event(2, 5, 32767))
    joy.put(axes(_1=1.0, _5=-1.0), buttons(LB), 1)
    for mode in Mode:
        here, there = device.poll(mode, 1), joy.poll(mode, 1)
        assert here.held and there.held and here.gripper == there.gripper == -1.0
        for one, two in ((here.joints, there.joints), (here.twist, there.twist)):
            assert (one is None) == (two is None)
            assert one is None or np.array_equal(one, two)


def test_a_device_file_that_says_nothing_new_is_still_held(device_file):
    kernel, device = device_file
    os.write(kernel, event(1, LB, 1))
    assert device.poll(Mode.JOINT, 0).held
    assert device.poll(Mode.JOINT, seconds_to_ns(60)).held


def test_an_event_that_arrives_in_halves_is_one(device_file):
    kernel, device = device_file
    whole = event(1, LB, 1)
    os.write(kernel, whole[:3])
    assert not device.poll(Mode.JOINT, 0).held
    os.write(kernel, whole[3:])
    assert device.poll(Mode.JOINT, 1).held


def test_an_unplugged_gamepad_is_an_error(tmp_path, embodiment):
    path = tmp_path / "js0"
    path.write_bytes(event(1, LB, 1))  # a file ends, as a device does that is gone
    device = Joystick(embodiment, PadOptions(), str(path))
    device.open()
    with pytest.raises(TeleopError, match="js0' was closed"):
        device.poll(Mode.JOINT, 0)
    device.close()


def test_a_gamepad_that_is_not_there_is_refused_with_those_that_are(embodiment, tmp_path):
    device = Joystick(embodiment, PadOptions(), str(tmp_path / "js7"))
    with pytest.raises(TeleopError, match=r"js7' can't be opened: No such file.*Gamepads here: "):
        device.open()
