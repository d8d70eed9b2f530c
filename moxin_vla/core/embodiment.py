"""The embodiment: everything that robot, data and checkpoint must agree on.

Read from one YAML file and checked at start.
"""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from moxin_vla.core.clock import NS_PER_S
from moxin_vla.core.errors import EmbodimentError, listed
from moxin_vla.core.fields import checked_fields, choice, vector
from moxin_vla.core.kinematics import Kinematics, Link
from moxin_vla.core.protocols import PolicySpec
from moxin_vla.core.types import frozen_array


class ActionSpace(Enum):
    """How a checkpoint for this robot expresses its actions.

    The runtime always sees absolute joint positions.
    """

    JOINT_POSITION = "joint_position"
    # offset from the proprio of the chunk's observation; the gripper stays absolute
    JOINT_DELTA = "joint_delta"
    END_EFFECTOR_DELTA = "end_effector_delta"


class HoldBehaviour(Enum):
    """What standing still means for this robot; no default: only its owner knows."""

    LAST_COMMAND = "last_command"
    MEASURED_POSITION = "measured_position"


@dataclass(frozen=True, slots=True)
class Joint:
    """One actuated joint: limits in [rad], [rad/s], [rad/s^2], [rad/s^3]."""

    name: str
    position: tuple[float, float]
    velocity: float
    acceleration: float
    jerk: float

    def __post_init__(self) -> None:
        lower, upper = self.position
        if not lower < upper:
            raise EmbodimentError(
                f"Joint '{self.name}': position limits must be [lower, upper] "
                f"with lower < upper. Got: {list(self.position)}"
            )
        for label in ("velocity", "acceleration", "jerk"):
            if not getattr(self, label) > 0:
                raise EmbodimentError(
                    f"Joint '{self.name}': {label} must be positive. Got: {getattr(self, label)}"
                )


@dataclass(frozen=True, slots=True)
class Gripper:
    """Which joint is the gripper, and the targets that mean open and closed, in [rad].

    `threshold` is for policies that say how far it is open, from 0 to 1: above it open, else
    closed. Without one, the target lies as far between the two.
    """

    joint: str
    open: float
    closed: float
    threshold: float | None = None

    def __post_init__(self) -> None:
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise EmbodimentError(f"gripper: threshold must be in (0, 1). Got: {self.threshold}")


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera: its name, the topic its images arrive on, the size the policy gets in pixels."""

    name: str
    topic: str
    width: int
    height: int

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise EmbodimentError(
                f"Camera '{self.name}': width and height must be at least 1 pixel. "
                f"Got: {self.width}x{self.height}"
            )


@dataclass(frozen=True, slots=True)
class Watchdog:
    """How old data may be before the arm must hold, in [s]."""

    proprio_max_age_s: float
    camera_max_age_s: float

    def __post_init__(self) -> None:
        for label in ("proprio_max_age_s", "camera_max_age_s"):
            if not getattr(self, label) > 0:
                raise EmbodimentError(
                    f"watchdog: {label} must be positive. Got: {getattr(self, label)}"
                )


@dataclass(frozen=True, slots=True)
class Workspace:
    """Where the end effector may be, in the base frame: two corners (x, y, z), in [m]."""

    lower: tuple[float, float, float]
    upper: tuple[float, float, float]

    def __post_init__(self) -> None:
        if not all(low < high for low, high in zip(self.lower, self.upper, strict=True)):
            raise EmbodimentError(
                "workspace: lower must be below upper on every axis. "
                f"Got: {list(self.lower)} and {list(self.upper)}"
            )


@dataclass(frozen=True, slots=True)
class Safety:
    """What is refused rather than limited, and how long things may last.

    How far the gripper jumps is not judged: open and closed are far apart by design, and its own
    limits shape the way between them.

    Attributes:
        start_jump_rad: Largest distance of a first target from the measured pose.
        refuse_factor: A step beyond this many times the velocity limit is out of contract.
        path_tolerance_rad: A chunk whose path the limits would bend by more, however slowly it
            is followed, is refused.
        position_margin_rad: Targets this far outside the position limits are out of contract.
        latch_after_s: A hold because of a fault that lasts so long latches until a reset.
        reset_cooldown_s: A reset is refused for so long after a stop or a latched fault.
        teleop_timeout_s: An operator silent for so long gives control back.
        workspace: Where the end effector may be; None for anywhere.
    """

    start_jump_rad: float
    refuse_factor: float
    path_tolerance_rad: float
    position_margin_rad: float
    latch_after_s: float
    reset_cooldown_s: float
    teleop_timeout_s: float
    workspace: Workspace | None = None

    def __post_init__(self) -> None:
        for label in ("start_jump_rad", "path_tolerance_rad", "latch_after_s", "teleop_timeout_s"):
            if not getattr(self, label) > 0:
                raise EmbodimentError(
                    f"safety: {label} must be positive. Got: {getattr(self, label)}"
                )
        for label in ("position_margin_rad", "reset_cooldown_s"):
            if not getattr(self, label) >= 0:
                raise EmbodimentError(
                    f"safety: {label} must not be negative. Got: {getattr(self, label)}"
                )
        if not self.refuse_factor >= 1:
            raise EmbodimentError(
                f"safety: refuse_factor must be at least 1. Got: {self.refuse_factor}"
            )


@dataclass(frozen=True, slots=True)
class Embodiment:
    """A robot as the whole stack sees it.

    Joint order is the order of proprio, actions and commands.
    """

    name: str
    description: str
    simulated: bool
    control_rate_hz: float
    action_space: ActionSpace
    hold: HoldBehaviour
    joints: tuple[Joint, ...]
    gripper: Gripper
    cameras: tuple[Camera, ...]
    joint_states_topic: str
    watchdog: Watchdog
    safety: Safety
    kinematics: Kinematics | None = None

    def __post_init__(self) -> None:
        if not self.control_rate_hz > 0:
            raise EmbodimentError(f"control_rate_hz must be positive. Got: {self.control_rate_hz}")
        _refuse_duplicates("joint", self.joint_names)
        _refuse_duplicates("camera", self.camera_names)
        if self.gripper.joint not in self.joint_names:
            raise EmbodimentError(
                f"Gripper joint '{self.gripper.joint}' is not a joint. "
                f"Joints: {listed(self.joint_names)}"
            )

        if self.kinematics is not None:
            self.kinematics.check(self.joint_names)
        elif self.safety.workspace is not None:
            raise EmbodimentError(
                "safety: a workspace needs `kinematics`, which says where the end effector is"
            )

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Joint names in command order, length D."""
        return tuple(joint.name for joint in self.joints)

    @property
    def camera_names(self) -> tuple[str, ...]:
        """Camera names in declared order."""
        return tuple(camera.name for camera in self.cameras)

    @property
    def dof(self) -> int:
        """Number of joints D."""
        return len(self.joints)

    @property
    def gripper_index(self) -> int:
        """Index of the gripper in the joint order."""
        return self.joint_names.index(self.gripper.joint)

    @property
    def step_ns(self) -> int:
        """Control period in [ns]."""
        return round(NS_PER_S / self.control_rate_hz)

    @property
    def position_lower(self) -> NDArray[np.float64]:
        """Lower position limits, shape (D,), in [rad]."""
        return frozen_array([joint.position[0] for joint in self.joints])

    @property
    def position_upper(self) -> NDArray[np.float64]:
        """Upper position limits, shape (D,), in [rad]."""
        return frozen_array([joint.position[1] for joint in self.joints])

    @property
    def velocity_limit(self) -> NDArray[np.float64]:
        """Largest joint speeds, shape (D,), in [rad/s]."""
        return frozen_array([joint.velocity for joint in self.joints])

    @property
    def acceleration_limit(self) -> NDArray[np.float64]:
        """Largest joint accelerations, shape (D,), in [rad/s^2]."""
        return frozen_array([joint.acceleration for joint in self.joints])

    @property
    def jerk_limit(self) -> NDArray[np.float64]:
        """Largest joint jerks, shape (D,), in [rad/s^3]."""
        return frozen_array([joint.jerk for joint in self.joints])

    def camera(self, name: str) -> Camera:
        """Return the camera called `name`.

        Raises:
            EmbodimentError: There is none; lists the known ones.
        """
        for camera in self.cameras:
            if camera.name == name:
                return camera
        raise EmbodimentError(
            f"Unknown camera '{name}'. Embodiment '{self.name}' has: {listed(self.camera_names)}"
        )

    def check_policy(self, spec: PolicySpec) -> None:
        """Refuse a policy made for another robot.

        Raises:
            EmbodimentError: Joints (names or order), cameras or control rate differ; says what was
                found and what was expected.
        """
        if spec.joints != self.joint_names:
            raise EmbodimentError(
                f"Policy '{spec.name}' does not fit embodiment '{self.name}': joints differ.\n"
                f"  found in the checkpoint:    {listed(spec.joints)}\n"
                f"  expected by the embodiment: {listed(self.joint_names)}"
            )
        for name in spec.cameras:
            self.camera(name)
        if spec.control_rate_hz != self.control_rate_hz:
            raise EmbodimentError(
                f"Policy '{spec.name}' was trained at {spec.control_rate_hz} Hz. "
                f"Embodiment '{self.name}' runs at {self.control_rate_hz} Hz."
            )


def load_embodiment(path: str | Path) -> Embodiment:
    """Read an embodiment YAML file.

    Raises:
        EmbodimentError: The file is missing or not YAML, or a field is missing, unknown or out of
            range.
    """
    path = Path(path)
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError):
        raise EmbodimentError(f"No embodiment file at '{path}'.") from None
    except yaml.YAMLError as error:
        raise EmbodimentError(f"'{path}' is not valid YAML: {error}") from None
    try:
        return parse_embodiment(raw)
    except EmbodimentError as error:
        raise EmbodimentError(f"{path}: {error}") from None


def parse_embodiment(raw: Any) -> Embodiment:
    """Build an embodiment from a file's content, such as a dataset carries with it.

    Raises:
        EmbodimentError: A field is missing, unknown or out of range.
    """
    values = checked_fields(Embodiment, raw, "the embodiment")
    for name, kind in (("joints", Joint), ("cameras", Camera)):
        if not isinstance(values[name], list) or not values[name]:
            raise EmbodimentError(
                f"'{name}' must be a list with at least one entry. Got: {values[name]!r}"
            )
        values[name] = tuple(
            _section(kind, entry, f"{name}[{i}]") for i, entry in enumerate(values[name])
        )
    values["gripper"] = _section(Gripper, values["gripper"], "gripper")
    values["watchdog"] = _section(Watchdog, values["watchdog"], "watchdog")
    values["safety"] = _safety(values["safety"])
    if values.get("kinematics") is not None:
        values["kinematics"] = _kinematics(values["kinematics"])
    values["action_space"] = choice(ActionSpace, values["action_space"], "action_space")
    values["hold"] = choice(HoldBehaviour, values["hold"], "hold")
    return Embodiment(**values)


def _safety(raw: Any) -> Safety:
    values = checked_fields(Safety, raw, "safety")
    if values.get("workspace") is not None:
        corners = checked_fields(Workspace, values["workspace"], "safety: workspace")
        for name, corner in corners.items():
            corners[name] = vector(corner, f"safety: workspace: {name}")
        values["workspace"] = Workspace(**corners)
    return Safety(**values)


def _kinematics(raw: Any) -> Kinematics:
    values = checked_fields(Kinematics, raw, "kinematics")
    if not isinstance(values["links"], list):
        raise EmbodimentError(f"kinematics: links must be a list. Got: {values['links']!r}")
    links = []
    for i, entry in enumerate(values["links"]):
        where = f"kinematics: links[{i}]"
        link = checked_fields(Link, entry, where)
        for name in ("xyz", "rpy", "axis"):
            link[name] = vector(link[name], f"{where}: {name}")
        links.append(Link(**link))
    tool = vector(values["tool"], "kinematics: tool")
    return Kinematics(tuple(links), tool)


def _section(kind: type, raw: Any, where: str) -> Any:
    values = checked_fields(kind, raw, where)
    if "position" in values:
        where = f"{where}: position"
        values["position"] = vector(values["position"], where, "[lower, upper]")
    return kind(**values)


def _refuse_duplicates(what: str, names: tuple[str, ...]) -> None:
    if duplicates := sorted({name for name in names if names.count(name) > 1}):
        raise EmbodimentError(f"Every {what} name must be unique. Repeated: {listed(duplicates)}")
