"""A keyboard is a terminal: tests type into a pseudo terminal."""

import os
import termios

import numpy as np
import pytest

from moxin_vla.core.clock import FakeClock, seconds_to_ns
from moxin_vla.teleop.base import Mode, OperatorEvent, TeleopError
from moxin_vla.teleop.keyboard import EventKeys, Keyboard
from moxin_vla.teleop.terminal import ASK_FOR_RELEASES, STOP_RELEASES, Terminal

TICK_NS = seconds_to_ns(0.05)


@pytest.fixture
def keyboard(pty, embodiment):
    device = Keyboard(embodiment, Terminal(pty[1]))
    device.open()
    yield device
    device.close()


def test_a_joint_key_moves_its_joint_while_it_repeats(pty, keyboard):
    clock = FakeClock(TICK_NS)
    for _ in range(5):
        os.write(pty[0], b"2")
        wanted = keyboard.poll(Mode.JOINT, clock.now_ns())
        assert wanted.held and np.array_equal(wanted.joints, [0, 1, 0, 0, 0])
        clock.advance_ns(TICK_NS)
    clock.advance_ns(3 * TICK_NS)
    wanted = keyboard.poll(Mode.JOINT, clock.now_ns())
    assert not wanted.held and not np.any(wanted.joints)


def test_the_keys_below_move_the_other_way_and_cancel(pty, keyboard):
    os.write(pty[0], b"w")
    assert keyboard.poll(Mode.JOINT, 1).joints[1] == -1
    os.write(pty[0], b"2")
    wanted = keyboard.poll(Mode.JOINT, 2)
    assert wanted.held and wanted.joints[1] == 0


@pytest.mark.parametrize(
    ("key", "index", "rate"),
    [(b"w", 0, 1), (b"s", 0, -1), (b"a", 1, 1), (b"f", 2, -1), (b"t", 4, 1), (b"e", 5, -1)],
)
def test_end_effector_keys_move_along_their_axis(pty, keyboard, key, index, rate):
    os.write(pty[0], key)
    wanted = keyboard.poll(Mode.END_EFFECTOR, 1)
    assert wanted.held and wanted.joints is None
    assert wanted.twist[index] == rate and np.count_nonzero(wanted.twist) == 1


def test_the_gripper_has_keys_in_every_mode(pty, keyboard):
    os.write(pty[0], b"l")
    assert keyboard.poll(Mode.JOINT, 1).gripper == 1.0
    os.write(pty[0], b"k")
    wanted = keyboard.poll(Mode.END_EFFECTOR, seconds_to_ns(5))
    assert wanted.gripper == -1.0 and wanted.held


def test_event_keys_are_events_and_no_dead_man(pty, keyboard):
    os.write(pty[0], b" bm+-nhjxz")
    wanted = keyboard.poll(Mode.JOINT, 1)
    assert not wanted.held
    assert wanted.events == (
        OperatorEvent.TAKE,
        OperatorEvent.GIVE_BACK,
        OperatorEvent.MODE,
        OperatorEvent.FASTER,
        OperatorEvent.SLOWER,
        OperatorEvent.START,
        OperatorEvent.STOP,
        OperatorEvent.SUCCESS,
        OperatorEvent.FAILURE,
        OperatorEvent.DISCARD,
    )
    assert keyboard.poll(Mode.JOINT, 2).events == ()


def test_a_key_of_the_other_mode_is_no_dead_man(pty, keyboard):
    os.write(pty[0], b"5")
    assert not keyboard.poll(Mode.END_EFFECTOR, 1).held


def test_a_terminal_that_tells_of_releases_ends_a_motion_at_once(pty, keyboard):
    os.write(pty[0], b"\x1b[?11u\x1b[119;1:1u")
    assert keyboard.poll(Mode.END_EFFECTOR, 1).held
    assert keyboard.poll(Mode.END_EFFECTOR, seconds_to_ns(0.4)).held
    os.write(pty[0], b"\x1b[119;1:3u")
    assert not keyboard.poll(Mode.END_EFFECTOR, seconds_to_ns(0.45)).held


def test_the_screen_names_every_joint(keyboard):
    shown = dict(keyboard.keys(Mode.JOINT))
    assert shown["1 q"] == "shoulder_pan" and shown["5 t"] == "wrist_roll"
    assert shown["l k"] == "open / close gripper" and shown["space"] == "take over"


def test_no_key_has_two_meanings_in_a_mode(keyboard):
    for mode in Mode:
        keys = [key for pair, _ in keyboard.keys(mode) for key in pair.split()]
        assert len(keys) == len(set(keys)), mode


def test_beside_another_device_motion_keys_are_nothing(pty):
    keys = EventKeys(Terminal(pty[1]))
    keys.open()
    os.write(pty[0], b"wj")
    wanted = keys.poll(Mode.JOINT, 1)
    assert not wanted.held and wanted.events == (OperatorEvent.SUCCESS,)
    keys.close()


def test_the_terminal_is_as_before_afterwards(pty):
    before = termios.tcgetattr(pty[1])
    terminal = Terminal(pty[1])
    terminal.open()
    assert not termios.tcgetattr(pty[1])[3] & (termios.ICANON | termios.ECHO)
    assert termios.tcgetattr(pty[1])[3] & termios.ISIG  # Ctrl-C still interrupts
    terminal.close()
    terminal.close()
    assert termios.tcgetattr(pty[1]) == before


def test_the_terminal_is_asked_for_releases_and_told_to_stop(pty):
    terminal = Terminal(pty[1])
    terminal.open()
    assert os.read(pty[0], 100) == ASK_FOR_RELEASES
    terminal.close()
    assert os.read(pty[0], 100) == STOP_RELEASES


def test_without_a_terminal_the_keyboard_says_what_to_do():
    reading, writing = os.pipe()
    try:
        with pytest.raises(TeleopError, match=r"needs a terminal.*Run `moxin-vla teleop` in one"):
            Terminal(reading).open()
    finally:
        os.close(reading)
        os.close(writing)


def test_a_terminal_that_goes_away_is_an_error_and_no_motion(embodiment):
    master, slave = os.openpty()
    device = Keyboard(embodiment, Terminal(slave))
    device.open()
    os.close(master)
    with pytest.raises(TeleopError, match=r"terminal (was closed|can't be read)"):
        device.poll(Mode.JOINT, 1)
    device.close()
    os.close(slave)
