"""A gamepad on a topic (sensor_msgs/Joy, from `joy_node`): works from another machine, too."""

from collections.abc import Sequence

from moxin_vla.core.embodiment import Embodiment
from moxin_vla.teleop.base import Mode, OperatorInput
from moxin_vla.teleop.gamepad import Pad, PadOptions


class Joy:
    """The node puts in what arrives; silence counts as released.

    Args:
        embodiment: The robot.
        options: How the pad is held.
    """

    modes: tuple[Mode, ...] = (Mode.END_EFFECTOR, Mode.JOINT)
    has_dead_man, aligns = True, False

    def __init__(self, embodiment: Embodiment, options: PadOptions) -> None:
        self._pad = Pad(embodiment, options, expires=True)

    def put(self, axes: Sequence[float], buttons: Sequence[int], now_ns: int) -> None:
        """Take a message's axes (-1..1) and buttons (0 or 1), heard at `now_ns`."""
        self._pad.put(axes, buttons, now_ns)

    def open(self) -> None:
        """Nothing to open."""

    def close(self) -> None:
        """Nothing to close."""

    def poll(self, mode: Mode, now_ns: int) -> OperatorInput:
        """Return what the last message means now."""
        return self._pad.read(mode, now_ns)

    def ready(self, tick_ns: int) -> bool:
        """Never waits for the operator."""
        return True

    def keys(self, mode: Mode) -> Sequence[tuple[str, str]]:
        """Return what moves what."""
        return self._pad.keys(mode)
