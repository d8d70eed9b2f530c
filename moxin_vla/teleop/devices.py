"""From a name such as `keyboard` or `lerobot:so101_leader` to the device."""

from collections.abc import Mapping
from typing import Any

from moxin_vla.core.embodiment import Embodiment
from moxin_vla.core.errors import listed
from moxin_vla.teleop.autopilot import Autopilot, AutopilotOptions
from moxin_vla.teleop.base import TeleopDevice, TeleopError
from moxin_vla.teleop.gamepad import PadOptions
from moxin_vla.teleop.joy import Joy
from moxin_vla.teleop.joystick import DEFAULT_PATH, Joystick
from moxin_vla.teleop.keyboard import Keyboard
from moxin_vla.teleop.lerobot_device import LeRobotDevice
from moxin_vla.teleop.options import checked_options
from moxin_vla.teleop.terminal import Terminal

DEVICES = ("keyboard", "gamepad[:FILE]", "joy[:TOPIC]", "lerobot:TYPE", "autopilot")
JOY_TOPIC = "/joy"


def make_device(name: str, embodiment: Embodiment, options: Mapping[str, Any]) -> TeleopDevice:
    """Return the device called `name`, not opened yet.

    Raises:
        TeleopError: Name or options are unknown, or the device does not fit the robot.
        DependencyError: The device needs a library that is not installed.
    """
    kind, colon, detail = name.partition(":")
    if kind == "lerobot" and detail:
        return LeRobotDevice(detail, embodiment, options)
    if kind == "gamepad":
        pad = checked_options(PadOptions, options, kind)
        return Joystick(embodiment, pad, detail or DEFAULT_PATH)
    if kind == "joy":
        return Joy(embodiment, checked_options(PadOptions, options, kind))
    if kind == "keyboard" and not colon:
        if options:
            raise TeleopError(f"Device 'keyboard' has no options. Got: {listed(options)}")
        return Keyboard(embodiment, Terminal())
    if kind == "autopilot" and not colon:
        return Autopilot(embodiment, checked_options(AutopilotOptions, options, kind))
    raise TeleopError(f"Unknown device '{name}'. Choose from: {listed(DEVICES)}")


def joy_topic(name: str) -> str:
    """Return the topic of a device called `joy` or `joy:TOPIC`."""
    return name.partition(":")[2] or JOY_TOPIC
