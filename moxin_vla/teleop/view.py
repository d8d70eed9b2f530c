"""What a screen shows about a running teleoperation."""

from collections.abc import Sequence
from dataclasses import dataclass

from moxin_vla.teleop.base import Mode
from moxin_vla.teleop.drive import Phase


@dataclass(frozen=True, slots=True)
class TeleopView:
    """One moment.

    Attributes:
        device: What drives.
        phase: Who has control.
        driver: Who moves the arm, as control_node says; empty if it says nothing.
        control: What control_node is doing, and why it holds if it does.
        held: Whether the dead-man is held.
        aligning: Whether the arm is on its way to a leader.
        mode: What the axes move; None if the device gives targets.
        speed: Share of full speed.
        joints: (name, measured [rad] or None, target [rad] or None) of every joint.
        keys: (key, meaning) pairs.
        recorder: The recorder's last answer.
        trouble: What is wrong; empty if nothing is.
    """

    device: str
    phase: Phase
    driver: str
    control: str
    held: bool
    aligning: bool
    mode: Mode | None
    speed: float
    joints: Sequence[tuple[str, float | None, float | None]]
    keys: Sequence[tuple[str, str]]
    recorder: str
    trouble: str
