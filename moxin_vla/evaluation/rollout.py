"""One episode in one process: the same loop, schedule and limits as the ROS nodes, without the
wire.

At tick T: if a plan is due, look and plan; if a plan becomes visible, commit it; then one command;
then one control period of the world. With an injected delay of d steps, what was seen at T becomes
visible at T + d.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moxin_vla.core.embodiment import Embodiment
from moxin_vla.core.protocols import EpisodeSpec, EpisodeStatus, Policy, World
from moxin_vla.core.types import ActionChunk, Observation
from moxin_vla.evaluation.config import check_horizon
from moxin_vla.runtime.delay import NO_DELAY, DelayTrace
from moxin_vla.runtime.joiners import DEFAULT_JOINER, make_joiner
from moxin_vla.runtime.loop import ControlLoop
from moxin_vla.runtime.planner import Planner
from moxin_vla.runtime.status import COUNTERS, LoopStatus
from moxin_vla.safety.limits import JointLimits


@dataclass(frozen=True, slots=True)
class EpisodeResult:
    """What happened in one episode. T control ticks, D joints.

    Attributes:
        spec: What was asked.
        status: How it ended, judged by the world.
        step_ns: Control period, in [ns].
        proprio: Measured joints at each tick, shape (T, D), in [rad].
        commands: What safety let through at each tick, shape (T, D), in [rad].
        chunks: (tick, actions (H, D)) of every plan, by the tick of its observation.
        landed: Ticks at which plans became visible, those of the plans that did; empty over ROS.
        inference_ms: Wall time of each plan, in [ms].
        wall_s: Wall time of the episode, in [s].
        loop: Counters of the control loop at the end; empty over ROS if none arrived.
        error: What broke, if the episode could not be run to its end; it then counts as a failure.
        frames: Frames of the video, (h, w, 3) each; may be empty.
        frame_steps: Control ticks between frames.
    """

    spec: EpisodeSpec
    status: EpisodeStatus
    step_ns: int
    proprio: NDArray[np.float64]
    commands: NDArray[np.float64]
    chunks: list[tuple[int, NDArray[np.float64]]]
    inference_ms: list[float]
    wall_s: float
    loop: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    frames: list[NDArray[np.uint8]] = field(default_factory=list)
    frame_steps: int = 2
    landed: list[int] = field(default_factory=list)

    @property
    def success(self) -> bool:
        """True if the world judged it a success and nothing broke."""
        return self.status.success and not self.error

    @property
    def failure(self) -> str:
        """Why it failed, in words; empty for a success."""
        if self.success:
            return ""
        return self.error or self.status.failure or "ran out of time"

    @property
    def sim_s(self) -> float:
        """Simulated time the episode took, in [s]."""
        return self.status.step * self.step_ns / 1e9


NOT_STARTED = EpisodeStatus(step=0, horizon=0, success=False)


def broken_episode(spec: EpisodeSpec, embodiment: Embodiment, error: str) -> EpisodeResult:
    """Return the result of an episode that could not be played: a failure, never dropped."""
    nothing = np.empty((0, embodiment.dof))
    return EpisodeResult(
        spec, NOT_STARTED, embodiment.step_ns, nothing, nothing, [], [], 0.0, error=error
    )


@dataclass(slots=True)
class _Trace:
    status: EpisodeStatus = NOT_STARTED  # the last that the world gave
    proprio: list = field(default_factory=list)
    commands: list = field(default_factory=list)
    chunks: list = field(default_factory=list)
    inference_ms: list = field(default_factory=list)
    landed: list = field(default_factory=list)
    frames: list = field(default_factory=list)


class Rollout:
    """Plays episodes of one policy in one world.

    Args:
        world: The simulator.
        policy: The policy.
        embodiment: The robot; the policy is checked against it.
        execution_horizon: Steps s played from each chunk.
        camera: Called after each tick that a video frame is due at; returns the frame. None for no
            video.
        frame_steps: Control ticks between frames.
        joiner: Name of the joiner.
        delays: Injected inference delay.

    Raises:
        EmbodimentError: The policy was made for another robot.
        EvaluationError: The execution horizon is larger than the policy's prediction horizon.
        DelayError: With this delay the plans can't follow one another.
    """

    def __init__(
        self,
        world: World,
        policy: Policy,
        embodiment: Embodiment,
        execution_horizon: int = 8,
        camera: Callable[[], NDArray[np.uint8]] | None = None,
        frame_steps: int = 2,
        joiner: str = DEFAULT_JOINER,
        delays: DelayTrace = NO_DELAY,
    ) -> None:
        embodiment.check_policy(policy.spec)
        check_horizon(policy.spec, execution_horizon, joiner, delays)
        self._world, self._policy, self._embodiment = world, policy, embodiment
        self._camera, self._frame_steps = camera, frame_steps
        ours, theirs = (
            make_joiner(joiner, execution_horizon, [embodiment.gripper_index]) for _ in range(2)
        )
        self._loop = ControlLoop(embodiment, JointLimits(embodiment), theirs)
        self._planner = Planner(
            ours, execution_horizon, embodiment.dof, embodiment.step_ns, delays
        )
        self._under_way: ActionChunk | None = None

    def run(self, spec: EpisodeSpec, video: bool = False) -> EpisodeResult:
        """Play one episode; whatever breaks in it becomes part of the result."""
        started = time.perf_counter()
        trace, error = _Trace(), ""
        try:
            self._reset(spec, trace)
            while not trace.status.done:
                self._step(spec, len(trace.commands), trace, video)
                trace.status = self._world.status()
        except Exception as broken:  # an episode that breaks is counted and shown, never dropped
            error = f"{type(broken).__name__}: {broken}"
        return EpisodeResult(
            spec=spec,
            status=trace.status,
            step_ns=self._embodiment.step_ns,
            proprio=np.array(trace.proprio, float).reshape(-1, self._embodiment.dof),
            commands=np.array(trace.commands, float).reshape(-1, self._embodiment.dof),
            chunks=trace.chunks,
            inference_ms=trace.inference_ms,
            wall_s=time.perf_counter() - started,
            loop=loop_counts(self._loop.status()),
            error=error,
            frames=trace.frames,
            frame_steps=self._frame_steps,
            landed=trace.landed,
        )

    def _reset(self, spec: EpisodeSpec, trace: _Trace) -> None:
        self._loop.reset()
        self._planner.reset()
        self._under_way = None
        self._policy.reset()
        self._world.reset(spec)
        trace.status = self._world.status()

    def _step(self, spec: EpisodeSpec, tick: int, trace: _Trace, video: bool) -> None:
        now_ns = tick * self._embodiment.step_ns
        proprio = self._world.proprio()
        while self._exchange(spec, tick, now_ns, proprio, trace):
            pass
        if video and self._camera is not None and tick % self._frame_steps == 0:
            trace.frames.append(self._camera())
        command = self._loop.tick(now_ns, proprio, now_ns)
        assert command is not None  # proprio is always there in a simulator
        trace.proprio.append(proprio)
        trace.commands.append(command.positions)
        self._world.step(command.positions)

    def _exchange(
        self, spec: EpisodeSpec, tick: int, now_ns: int, proprio: NDArray, trace: _Trace
    ) -> bool:
        """Ask for a plan if one is due and land the one that is visible; False if none was."""
        requests = self._planner.requests
        if requests.due(now_ns):
            self._plan(spec, tick, now_ns, proprio, trace)
        if not requests.visible(now_ns):
            return False
        assert self._under_way is not None
        self._loop.commit(self._under_way, now_ns)
        self._planner.land(self._under_way, now_ns)
        trace.landed.append(tick)
        return True

    def _plan(
        self, spec: EpisodeSpec, tick: int, now_ns: int, proprio: NDArray, trace: _Trace
    ) -> None:
        images = self._world.images() if self._policy.spec.cameras else {}
        shown = self._planner.ask(Observation(now_ns, images, proprio, spec.instruction))
        before = time.perf_counter_ns()
        chunk = self._policy.infer(shown)
        trace.inference_ms.append((time.perf_counter_ns() - before) / 1e6)
        self._under_way = self._planner.answer(chunk)
        trace.chunks.append((tick, self._under_way.actions))


def loop_counts(status: LoopStatus) -> dict[str, Any]:
    """Return the loop's counters and state as plain values for a report."""
    rejected = {reason.name.lower(): count for reason, count in status.rejected.items()}
    return {
        "mode": status.mode.value,
        "reason": status.reason.value,
        **{name: getattr(status, name) for name in COUNTERS},
        "rejected": rejected,
    }
