"""What flows through the system: Observation -> ActionChunk -> Action -> Command.

Times are integer [ns] on the control clock (simulated or real). Vectors follow the joint order of
the embodiment; angles are in [rad]. Arrays are copied and made read-only on construction, so a
stage can't change what another one holds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from moxin_vla.core.errors import InstructionError, ObservationError, PolicyError


def frozen_array(values: ArrayLike, dtype: type = np.float64) -> NDArray:
    """Copy `values` into a read-only array of `dtype`."""
    array = np.array(values, dtype=dtype)
    array.setflags(write=False)
    return array


def checked_instruction(instruction: str) -> str:
    """Strip the instruction; raise InstructionError if nothing is left."""
    if not isinstance(instruction, str) or not instruction.strip():
        raise InstructionError(
            f"The instruction is empty. Got: {instruction!r}. "
            "Expected: text such as 'pick up the red cube'."
        )
    return instruction.strip()


@dataclass(frozen=True, slots=True)
class Observation:
    """What the policy may see, captured at one moment.

    Attributes:
        time_ns: Capture time of the images and the proprio, in [ns].
        images: Camera name -> uint8 RGB array of shape (height, width, 3), read-only.
        proprio: Measured joint positions in embodiment order, shape (D,), in [rad].
        instruction: What the operator asked for; never empty.
        committed: Joint targets of the control steps from `time_ns` on that will be played
            whatever is planned now, shape (d, D), in [rad]; d is the inference delay that the
            caller expects. Empty if it expects none or the policy need not know.

    Raises:
        ObservationError: A shape or dtype is wrong, or proprio or committed is not finite.
        InstructionError: The instruction is empty.
    """

    time_ns: int
    images: Mapping[str, NDArray[np.uint8]]
    proprio: NDArray[np.float64]  # (D,)
    instruction: str
    committed: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))  # (d, D)

    def __post_init__(self) -> None:
        object.__setattr__(self, "instruction", checked_instruction(self.instruction))
        proprio = frozen_array(self.proprio)
        if proprio.ndim != 1 or not np.all(np.isfinite(proprio)):
            raise ObservationError(
                f"Proprio must be finite and of shape (D,). Got: {proprio.tolist()}"
            )
        object.__setattr__(self, "proprio", proprio)
        object.__setattr__(self, "committed", _checked_committed(self.committed, len(proprio)))
        for name, pixels in self.images.items():
            if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
                raise ObservationError(
                    f"Image '{name}' must be uint8 of shape (height, width, 3). "
                    f"Got: {pixels.dtype} {pixels.shape}"
                )
        object.__setattr__(
            self,
            "images",
            MappingProxyType({k: _readonly(v) for k, v in self.images.items()}),
        )


def _checked_committed(committed: ArrayLike, dof: int) -> NDArray[np.float64]:
    """Return committed targets as (d, D), read-only; d may be 0."""
    steps = frozen_array(committed)
    if steps.size == 0:
        return frozen_array(np.empty((0, dof)))
    if steps.ndim != 2 or steps.shape[1] != dof or not np.all(np.isfinite(steps)):
        raise ObservationError(
            f"Committed targets must be finite and of shape (d, {dof}). Got: {steps.shape}"
        )
    return steps


def _readonly(array: NDArray) -> NDArray:
    """Copy an image that someone could still write to; one that is read-only already is kept."""
    return frozen_array(array, np.uint8) if array.flags.writeable else array


@dataclass(frozen=True, slots=True)
class ActionChunk:
    """A policy's plan: absolute joint position targets on the clock.

    Step i is the target commanded for `step_ns` from `observation_time_ns + i * step_ns` on.

    Attributes:
        observation_time_ns: Capture time of the observation the plan was made from, in [ns].
        step_ns: Time between steps, in [ns].
        actions: Joint position targets, shape (H, D), in [rad]. May hold NaN: safety refuses it,
            with a count.
        inference_ns: Wall time the policy took, in [ns]; 0 if unknown.
    """

    observation_time_ns: int
    step_ns: int
    actions: NDArray[np.float64]  # (H, D)
    inference_ns: int = 0

    def __post_init__(self) -> None:
        actions = frozen_array(self.actions)
        if actions.ndim != 2 or 0 in actions.shape:
            raise PolicyError(f"An action chunk must be of shape (H, D). Got: {actions.shape}")
        if self.step_ns <= 0:
            raise PolicyError(f"step_ns must be positive. Got: {self.step_ns}")
        object.__setattr__(self, "actions", actions)

    @property
    def horizon(self) -> int:
        """Prediction horizon H, in control steps."""
        return self.actions.shape[0]


class CommitReason(Enum):
    """Why a chunk was taken or refused."""

    ACCEPTED = "accepted"
    STALE = "stale: every step has passed"
    OUT_OF_ORDER = "out of order: a newer observation is already committed"
    WRONG_SESSION = "wrong session: observed before the last reset"
    WRONG_SHAPE = "wrong shape: not the embodiment's number of joints"
    WRONG_STEP = "wrong step: not the embodiment's control period"
    NOT_FINITE = "not finite: NaN or infinity in the chunk"
    FROM_THE_FUTURE = "from the future: stamped later than the control clock"
    OUT_OF_CONTRACT = "out of contract: a step far beyond the velocity or position limits"
    START_JUMP = "start jump: the first target is too far from the measured pose"
    CANNOT_BRAKE = "cannot brake: the limits would bend its path, however slowly it is followed"
    OPERATOR_DRIVES = "operator drives: chunks are refused until control is given back"


@dataclass(frozen=True, slots=True)
class CommitVerdict:
    """The answer to an offered chunk. If not accepted, the timeline is unchanged."""

    reason: CommitReason
    trimmed_steps: int = 0

    @property
    def accepted(self) -> bool:
        """True if the chunk is now on the timeline."""
        return self.reason is CommitReason.ACCEPTED


@dataclass(frozen=True, slots=True)
class Action:
    """What the runtime wants at one control tick: joint targets of shape (D,), in [rad]."""

    time_ns: int
    positions: NDArray[np.float64]  # (D,)


class ControlMode(Enum):
    """What the control loop is doing; shown in its status."""

    WAITING = "waiting"  # no proprio or no chunk yet
    RUNNING = "running"  # playing a chunk
    HOLDING = "holding"  # standing still, because of `reason`
    STOPPED = "stopped"  # latched on request: an explicit reset is needed
    FAULT = "fault"  # latched because of `reason`: an explicit reset is needed


class HoldReason(Enum):
    """Why the arm stands still."""

    NONE = ""
    NO_CHUNK = "no action chunk has arrived yet"
    STARVED = "the last action chunk has run out and no new one has arrived"
    PROPRIO_STALE = "joint states are missing or stale"
    NOT_FINITE = "the policy returned NaN or infinity"
    CLOCK_WENT_BACK = "the control clock went back and no new action chunk has arrived"
    OUT_OF_CONTRACT = "the policy asked for what no limit allows"
    START_JUMP = "the first target is too far from the measured pose"
    HAND_OVER = "control is being handed over"
    SECOND_COMMANDER = "somebody else commands the robot"
    NOT_ENABLED = "motion is not enabled"
    STOP_REQUESTED = "stop was requested"


@dataclass(frozen=True, slots=True)
class Command:
    """What safety let through for one control tick.

    Attributes:
        time_ns: The tick it is for, in [ns].
        positions: Joint position targets of shape (D,), in [rad]; always finite and inside the
            limits.
        mode: What the loop was doing.
        reason: Why it held, if it did.
        limited: Names of the limits that changed the action at this tick; see `Limited`.
    """

    time_ns: int
    positions: NDArray[np.float64]  # (D,)
    mode: ControlMode
    reason: HoldReason = HoldReason.NONE
    limited: tuple[str, ...] = field(default=())
