"""Any device that LeRobot has a Teleoperator class for: leader arms, gloves, gamepads, plugins.

Devices that give joint positions (`<joint>.pos`) are followed; those that give `delta_x`,
`delta_y`, `delta_z` move the end effector. lerobot is imported when the device is made.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from moxin_vla.core.embodiment import Embodiment
from moxin_vla.core.errors import DependencyError, listed
from moxin_vla.teleop.base import Mode, OperatorEvent, OperatorInput, TeleopError

UNITS = ("degrees", "radians", "percent")
_DELTAS = ("delta_x", "delta_y", "delta_z")
_EVENTS = {
    "success": OperatorEvent.SUCCESS,
    "failure": OperatorEvent.FAILURE,
    "rerecord_episode": OperatorEvent.DISCARD,
    "terminate_episode": OperatorEvent.STOP,
}
_SUFFIX = ".pos"


class LeRobotDevice:
    """A LeRobot Teleoperator as a device.

    Options are those of the device's own config (`port`, `id`, ...), and for a leader `units`
    (degrees, radians or percent of each joint's range), `scale.<joint>` and `offset.<joint>` in
    [rad]: target = scale * position + offset.

    Args:
        kind: Type name, as in `lerobot-teleoperate --teleop.type`.
        embodiment: The robot.
        options: As above.

    Raises:
        TeleopError: The type or an option is unknown, or the device does not fit the robot.
        DependencyError: lerobot, or what the device needs, is not installed.
    """

    def __init__(self, kind: str, embodiment: Embodiment, options: Mapping[str, Any]) -> None:
        self._kind, self._embodiment = kind, embodiment
        ours = {k: v for k, v in options.items() if _is_ours(k)}
        theirs = {k: v for k, v in options.items() if not _is_ours(k)}
        self._device, config = _make(kind, theirs)
        names = _feature_names(self._device)
        self._moves_end_effector = set(_DELTAS) <= names
        self.modes: tuple[Mode, ...] = (Mode.END_EFFECTOR,) if self._moves_end_effector else ()
        self.has_dead_man = self._moves_end_effector
        self.aligns = not self._moves_end_effector
        self._convert = None
        if not self._moves_end_effector:
            self._convert = LeaderUnits(embodiment, names, ours, config, kind)
        elif ours:
            raise TeleopError(f"{listed(ours)} are for leader arms; '{kind}' is none.")
        self._down: frozenset[str] = frozenset()

    def open(self) -> None:
        """Connect.

        Raises:
            TeleopError: It is not there, or not calibrated.
        """
        takes = inspect.signature(self._device.connect).parameters
        try:
            self._device.connect(**({"calibrate": False} if "calibrate" in takes else {}))
        except Exception as error:  # each driver has its own
            raise TeleopError(
                f"The device lerobot:{self._kind} can't be connected: "
                f"{type(error).__name__}: {error}"
            ) from error
        if not self._device.is_calibrated:
            self.close()
            raise TeleopError(
                f"The device lerobot:{self._kind} is not calibrated. Do it once with "
                f"`lerobot-calibrate --teleop.type={self._kind} ...` and the same id."
            )

    def close(self) -> None:
        """Disconnect; whatever it says then is no longer of interest."""
        try:
            if self._device.is_connected:
                self._device.disconnect()
        except Exception:  # unplugged, for instance: that is what we wanted
            return

    def poll(self, mode: Mode, now_ns: int) -> OperatorInput:
        """Read the device.

        Raises:
            TeleopError: It can't be read.
        """
        try:
            return self._read()
        except Exception as error:  # each driver has its own
            raise TeleopError(
                f"The device lerobot:{self._kind} can't be read: {type(error).__name__}: {error}"
            ) from error

    def _read(self) -> OperatorInput:
        action = self._device.get_action()
        said = self._device.get_teleop_events() if self._has_events else {}
        state = {str(getattr(k, "value", k)): bool(v) for k, v in said.items()}
        events = self._pressed(state)
        if self._convert is not None:
            return OperatorInput(held=True, target=self._convert(action), events=events)
        twist = np.zeros(6)
        twist[:3] = [float(action[name]) for name in _DELTAS]
        grip = float(action.get("gripper", 1.0)) - 1.0  # 0 closes, 1 stays, 2 opens
        held = state.get("is_intervention", bool(np.any(twist)) or grip != 0.0)
        return OperatorInput(held=held, twist=twist, gripper=grip, events=events)

    def ready(self, tick_ns: int) -> bool:
        """Never waits for the operator."""
        return True

    def keys(self, mode: Mode) -> Sequence[tuple[str, str]]:
        """Say what moving it does."""
        if self._moves_end_effector:
            return [("its sticks", "end effector"), ("its buttons", "as LeRobot has them")]
        return [("the leader arm", "followed joint by joint")]

    @property
    def _has_events(self) -> bool:
        return callable(getattr(self._device, "get_teleop_events", None))

    def _pressed(self, state: Mapping[str, bool]) -> tuple[OperatorEvent, ...]:
        """Return the events that are newly true."""
        down = frozenset(name for name, value in state.items() if value)
        new, self._down = down - self._down, down
        if "terminate_episode" in new and down & {"success", "failure", "rerecord_episode"}:
            new -= {"terminate_episode"}  # it says the same twice
        return tuple(event for name, event in _EVENTS.items() if name in new)


class LeaderUnits:
    """Turns a leader's action into joint targets of the embodiment.

    Args:
        embodiment: The robot.
        names: Names of the leader's action.
        options: `units`, `scale.<joint>` and `offset.<joint>`.
        config: The device's configuration; its `use_degrees` decides about missing units.
        kind: Type name, for messages.

    Raises:
        TeleopError: A joint is missing, units are unknown, or an option names no joint.
    """

    def __init__(
        self,
        embodiment: Embodiment,
        names: set[str],
        options: Mapping[str, Any],
        config: Any,
        kind: str,
    ) -> None:
        joints = embodiment.joint_names
        if missing := [name for name in joints if name + _SUFFIX not in names]:
            raise TeleopError(
                f"The device lerobot:{kind} does not fit embodiment '{embodiment.name}': it has "
                f"no {listed(missing)}.\n"
                f"  found in its action:        {listed(sorted(names))}\n"
                f"  expected by the embodiment: {listed(name + _SUFFIX for name in joints)}"
            )
        self._keys, self._grip = [name + _SUFFIX for name in joints], embodiment.gripper_index
        self._open, self._closed = embodiment.gripper.open, embodiment.gripper.closed
        self._lower, self._upper = embodiment.position_lower, embodiment.position_upper
        self._units = _units(options.get("units"), config, kind)
        self._scale = _per_joint("scale", options, joints, 1.0)
        self._offset = _per_joint("offset", options, joints, 0.0)

    def __call__(self, action: Mapping[str, Any]) -> np.ndarray:
        """Return the target (D,), in [rad]; the gripper from percent (0 closed) to its range."""
        said = np.array([float(action[key]) for key in self._keys])
        target = said.copy()
        if self._units == "degrees":
            target = np.deg2rad(said)
        elif self._units == "percent":  # -100 .. 100
            target = self._lower + (said + 100.0) / 200.0 * (self._upper - self._lower)
        if self._units != "radians":
            share = float(np.clip(said[self._grip] / 100.0, 0.0, 1.0))
            target[self._grip] = self._closed + share * (self._open - self._closed)
        return self._scale * target + self._offset


def known_types() -> list[str]:
    """Return the type names of every LeRobot device that can be imported here."""
    return sorted(_config_base().get_known_choices())


def _config_base() -> Any:
    try:
        package = importlib.import_module("lerobot.teleoperators")
        imports: Any = importlib.import_module("lerobot.utils.import_utils")
    except ModuleNotFoundError as error:
        raise DependencyError(
            f"{error.name} is missing. Install it with: pip install 'moxin_vla[data]'"
        ) from None
    for module in pkgutil.iter_modules(package.__path__):
        _attempt(lambda name=module.name: importlib.import_module(f"{package.__name__}.{name}"))
    imports.register_third_party_plugins()
    return package.TeleoperatorConfig


def _attempt(load: Callable[[], Any]) -> None:
    """Import a family of devices; one whose own libraries are missing is simply not known."""
    try:
        load()
    except ImportError:
        return


def _make(kind: str, options: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return the device and its config."""
    base = _config_base()
    if kind not in base.get_known_choices():
        raise TeleopError(
            f"LeRobot knows no teleoperator '{kind}'. "
            f"Known here: {listed(sorted(base.get_known_choices()))}"
        )
    kind_config = base.get_choice_class(kind)
    known = [field.name for field in fields(kind_config)]
    if unknown := [name for name in options if name not in known]:
        raise TeleopError(
            f"Device 'lerobot:{kind}' has no option {listed(unknown)}. "
            f"Known: {listed([*known, 'units', 'scale.<joint>', 'offset.<joint>'])}"
        )
    teleoperators: Any = importlib.import_module("lerobot.teleoperators")
    try:
        if isinstance(options.get("calibration_dir"), str):
            options = {**options, "calibration_dir": Path(options["calibration_dir"])}
        config = kind_config(**options)
        return teleoperators.make_teleoperator_from_config(config), config
    except ImportError as error:
        raise DependencyError(f"The device lerobot:{kind} needs more: {error}") from None
    except (TypeError, ValueError) as error:
        if isinstance(error.__cause__, ImportError):  # as LeRobot's factory passes it on
            raise DependencyError(f"The device lerobot:{kind} needs more: {error}") from None
        raise TeleopError(f"The device lerobot:{kind} refuses its options: {error}") from None


def _feature_names(device: Any) -> set[str]:
    """Return the names in a device's action: keys, or those below `names`."""
    features = device.action_features
    names = features.get("names", features)
    return set(names)


def _is_ours(option: str) -> bool:
    return option == "units" or option.startswith(("scale.", "offset."))


def _units(said: Any, config: Any, kind: str) -> str:
    if said in UNITS:
        return said
    if said is not None:
        raise TeleopError(f"Unknown units '{said}'. Choose from: {listed(UNITS)}")
    degrees = getattr(config, "use_degrees", None)
    if degrees is None:
        raise TeleopError(
            f"Say in which units lerobot:{kind} gives its joints: the option units, one of "
            f"{listed(UNITS)}."
        )
    return "degrees" if degrees else "percent"


def _per_joint(
    what: str, options: Mapping[str, Any], joints: Sequence[str], default: float
) -> np.ndarray:
    """Return the value of `what.<joint>` for every joint, (D,)."""
    known = {f"{what}.{joint}" for joint in joints}
    given = {name for name in options if name.startswith(f"{what}.")}
    if unknown := sorted(given - known):
        raise TeleopError(f"There is no joint for {listed(unknown)}. Joints: {listed(joints)}")
    try:
        return np.array([float(options.get(f"{what}.{joint}", default)) for joint in joints])
    except (TypeError, ValueError):
        raise TeleopError(f"{what}.<joint> must be a number. Got: {dict(options)}") from None
