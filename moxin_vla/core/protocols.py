"""The seams between stages, as promises."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from moxin_vla.core.types import ActionChunk, CommitReason, Observation


@dataclass(frozen=True, slots=True)
class PolicySpec:
    """What a policy needs and gives; checked against the embodiment before anything moves.

    Attributes:
        name: Shown in reports and diagnostics.
        joints: Joint names in the order of proprio and actions, length D.
        cameras: Names of the images it reads, in the policy's order.
        horizon: Prediction horizon H, in control steps.
        control_rate_hz: Rate its steps were trained at, in [Hz].
        fingerprint: Hash of weights and statistics; empty if it has none.
        proprio_range: Lowest and highest value of each proprio dim in the training data, in
            [rad], length D; None if unknown.
    """

    name: str
    joints: tuple[str, ...]
    cameras: tuple[str, ...]
    horizon: int
    control_rate_hz: float
    fingerprint: str = ""
    proprio_range: tuple[tuple[float, float], ...] | None = None

    def outside(self, proprio: NDArray[np.float64]) -> tuple[str, ...]:
        """Name the dims of a proprio (D,) that lie beyond the training data by a tenth of its
        range.
        """
        if self.proprio_range is None:
            return ()
        low, high = np.array(self.proprio_range).T
        slack = 0.1 * (high - low)
        beyond = (proprio < low - slack) | (proprio > high + slack)
        return tuple(name for name, out in zip(self.joints, beyond, strict=True) if out)


@runtime_checkable
class Policy(Protocol):
    """Turns an observation into an action chunk.

    One thread at a time calls `reset` and `infer`; `infer` may take long and never runs on the
    control thread. The observation is read-only and is not kept. The chunk has
    `observation_time_ns == observation.time_ns`, `spec.horizon` steps of absolute joint targets in
    the order of `spec.joints`, in [rad]. `infer` raises PolicyError or ObservationError for an
    observation it can't use.
    """

    @property
    def spec(self) -> PolicySpec:
        """What this policy needs and gives; constant over its life."""
        ...

    def reset(self) -> None:
        """Forget everything about the running episode. Idempotent."""
        ...

    def infer(self, observation: Observation) -> ActionChunk:
        """Return the plan for `observation`.

        Deterministic: the same observation after `reset` gives the same chunk.
        """
        ...


@dataclass(frozen=True, slots=True)
class Limited:
    """A target after the limits.

    Attributes:
        positions: Joint position targets, shape (D,), in [rad].
        limited: Names of the limits that changed the target, of `position`, `velocity`,
            `acceleration`, `jerk`, `braking` (there would have been no way to stop), `workspace`;
            and `slowed` if the path was kept by going along it more slowly.
    """

    positions: NDArray[np.float64]  # (D,)
    limited: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Review:
    """What safety thinks of a plan: why it is refused, or how fast, 0..1, it can be followed."""

    reason: CommitReason
    speed: float = 1.0


class SafetyFilter(Protocol):
    """Last hop before the robot.

    Called from the control thread, `limit` or `brake` once per tick; never blocks; never raises on
    bad numbers. After every command a way to standstill within the limits is known.
    """

    @property
    def standing(self) -> bool:
        """True while the commands do not move, or nothing was commanded yet."""
        ...

    def reset(self) -> None:
        """Forget the last command: the next one starts from the measured pose, at rest."""
        ...

    def fresh(self, proprio_time_ns: int, now_ns: int) -> bool:
        """Say whether a measurement captured at `proprio_time_ns` may still be acted on."""
        ...

    def speed(self, proprio_time_ns: int, now_ns: int) -> float:
        """Return the share of full speed, 0..1, that a measurement of that age is good for."""
        ...

    def review(self, steps: NDArray[np.float64], measured: NDArray[np.float64]) -> Review:
        """Judge the steps of a plan, (n, D) finite and in [rad], before it is committed."""
        ...

    def new_path(self) -> None:
        """Say that the next target begins a new plan."""
        ...

    def limit(
        self,
        target: NDArray[np.float64],
        measured: NDArray[np.float64],
        speed: float = 1.0,
        ahead: NDArray[np.float64] | None = None,
    ) -> Limited | None:
        """Bring the next target of a plan inside every limit.

        Args:
            target: Joint position targets of shape (D,), in [rad].
            measured: Measured joint positions of shape (D,), in [rad].
            speed: Share of full speed, 0..1, at which the plan is followed.
            ahead: Targets of the ticks to come, shape (n, D), in [rad]; None if they are not
                known: an arm that catches up must be able to stop before it passes them.

        Returns:
            Positions to command, or None if the target must be refused (not finite).
        """
        ...

    def brake(self, measured: NDArray[np.float64]) -> Limited | None:
        """Take the next step to standstill, or stand.

        Args:
            measured: Where to stand if nothing was commanded yet, shape (D,), in [rad].

        Returns:
            Positions to command; None if there is nowhere to stand yet (not finite).
        """
        ...

    def settle(self, target: NDArray[np.float64]) -> None:
        """Let `brake` go to a pose, (D,) in [rad], within the limits; only while standing."""
        ...


@dataclass(frozen=True, slots=True)
class EpisodeSpec:
    """One episode to run: everything a world needs to set it up again exactly.

    Attributes:
        seed: Seeds the scene. The same seed and family give the same scene, whatever the
            instruction.
        family: Task family, such as `pick`.
        instruction: What the robot is told.
    """

    seed: int
    family: str
    instruction: str


@dataclass(frozen=True, slots=True)
class EpisodeStatus:
    """How an episode stands.

    `failure` says in words what went wrong, such as 'moved the blue cube'; empty if nothing did.
    """

    step: int
    horizon: int
    success: bool
    failure: str = ""

    @property
    def done(self) -> bool:
        """True once nothing can change the result."""
        return self.success or bool(self.failure) or self.step >= self.horizon


class World(Protocol):
    """A robot and its surroundings that stand still between steps: the simulator.

    Driven by one thread.
    """

    def reset(self, episode: EpisodeSpec) -> None:
        """Set up the scene of `episode` and put the arm home.

        Raises:
            SimulationError: The family or the instruction is unknown.
        """
        ...

    def proprio(self) -> NDArray[np.float64]:
        """Return measured joint positions, shape (D,), in [rad]."""
        ...

    def images(self) -> dict[str, NDArray[np.uint8]]:
        """Render every camera now: name -> uint8 RGB (height, width, 3)."""
        ...

    def step(self, positions: NDArray[np.float64]) -> None:
        """Command joint targets of shape (D,), in [rad], and advance one control period."""
        ...

    def status(self) -> EpisodeStatus:
        """Return how the running episode stands."""
        ...


class Joiner(Protocol):
    """How a new chunk joins the plan that is being played; one object per side, one thread each.

    The policy's side calls `ask` and `answer` around each inference, the control side `join` when
    the chunk arrives. Deterministic: the same calls since `reset` give the same results, so the
    policy's side can foretell the plan by calling `join` as well.

    Attributes:
        name: As chosen on the command line.
        waits: True if the arm stands still during inference: the next plan is due s steps after
            the last one has arrived, instead of s steps after it was asked for.
        every_step: True if a plan is due at every step at which none is under way.
        resumes: True if steps of a new chunk do not pass while the arm stands still.
    """

    name: str
    waits: bool
    every_step: bool
    resumes: bool

    def reset(self) -> None:
        """Forget every chunk. Idempotent."""
        ...

    def ask(self, observation: Observation) -> Observation:
        """Return what the policy is shown, given an observation that carries `committed`."""
        ...

    def answer(self, observation: Observation, chunk: ActionChunk) -> ActionChunk:
        """Return the plan to publish, step 0 at `observation.time_ns`.

        Args:
            observation: What `ask` was given.
            chunk: What the policy made of it, (H, D).
        """
        ...

    def join(self, planned: ActionChunk | None, new: ActionChunk, now_ns: int) -> ActionChunk:
        """Return the plan from `now_ns` on, with the new chunk's stamp; finite if both are.

        Args:
            planned: What was played until now, as `join` returned it; None at first.
            new: The chunk that has arrived, with the step to play now at `now_ns`; there is one.
            now_ns: Control clock, in [ns].
        """
        ...
