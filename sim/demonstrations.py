"""Demonstrations with labels: every recorded frame carries the chunk that the expert would play
from there.

The driver may be the expert, disturbed by bursts, or a policy (DAgger, Ross et al. 2011): then the
policy acts, the expert only labels, and the states are the ones the policy really reaches.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moxin_sim.experts import Expert
from moxin_sim.perturbations.bursts import Bursts
from moxin_sim.projection import project
from moxin_sim.tasks import FAMILIES, sample_episode
from moxin_sim.world import APPROACH_PITCH_RAD, Tabletop
from moxin_vla.core import dataset as keys
from moxin_vla.core.embodiment import Embodiment
from moxin_vla.core.protocols import EpisodeSpec, Policy
from moxin_vla.core.types import Observation
from moxin_vla.recording.dataset import DatasetWriter
from moxin_vla.recording.features import demonstration_features

_LINGER_FRAMES = 2  # frames kept after success, so that holding still is shown too


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """One dataset to record.

    Attributes:
        root: Where it goes.
        first_seed: Seed of its first episode; episode i has seed first_seed + i.
        episodes: How many.
        policy_share: Share of the episodes driven by the policy, if there is one.
        stride: Every how many control steps a frame is recorded.
        execution_horizon: Steps s of a chunk that a policy plays before it is asked again.
    """

    root: Path
    first_seed: int
    episodes: int
    policy_share: float
    stride: int = 4
    execution_horizon: int = 8


def record_shard(
    plan: ShardPlan,
    embodiment: Embodiment,
    policy: Policy | None,
    metadata: dict[str, Any],
    on_episode: Callable[[int, bool], None] = lambda index, success: None,
) -> None:
    """Record a dataset; deterministic in the plan and the policy.

    Args:
        plan: What to record.
        embodiment: The robot.
        policy: Drives `policy_share` of the episodes; None leaves them all to the expert.
        metadata: Written into the dataset's mark.
        on_episode: Called after each episode with its index and whether it succeeded.
    """
    world = Tabletop(embodiment)
    expert = Expert(world)
    declared = demonstration_features(embodiment, expert.horizon)
    fps = round(embodiment.control_rate_hz / plan.stride)
    with DatasetWriter(plan.root, declared, fps, embodiment.name, metadata) as writer:
        for index in range(plan.episodes):
            seed = plan.first_seed + index
            rng = np.random.default_rng([seed, 7])
            episode = sample_episode(FAMILIES[index % len(FAMILIES)], seed)
            driven = policy is not None and rng.random() < plan.policy_share
            demonstration = Demonstration(world, expert, plan, rng, policy if driven else None)
            frames = demonstration.run(episode)
            if len(frames) >= 2:
                writer.add_episode(frames, episode.instruction)
            on_episode(index, world.status().success)
    world.close()


class Demonstration:
    """Runs one episode and collects its frames."""

    def __init__(
        self,
        world: Tabletop,
        expert: Expert,
        plan: ShardPlan,
        rng: np.random.Generator,
        policy: Policy | None,
    ) -> None:
        self._world, self._expert, self._plan, self._policy = world, expert, plan, policy
        self._bursts = Bursts(rng, APPROACH_PITCH_RAD)
        self._offset = int(rng.integers(plan.stride))
        self._limit = world.embodiment.velocity_limit / world.embodiment.control_rate_hz

    def run(self, episode: EpisodeSpec) -> list[dict[str, Any]]:
        """Play the episode to its end; returns the recorded frames."""
        world, plan = self._world, self._plan
        world.reset(episode)
        if self._policy is not None:
            self._policy.reset()
        frames: list[dict[str, Any]] = []
        command, step, lingered = world.proprio(), 0, 0
        while (
            lingered <= _LINGER_FRAMES
            and not world.status().failure
            and step < world.status().horizon
        ):
            record = step % plan.stride == self._offset
            ask = self._policy is not None and step % plan.execution_horizon == 0
            images = world.images() if record or ask else {}
            label = self._expert.chunk() if record or self._policy is None else None
            if ask:
                chunk = self._ask(episode, images, step)
            action = (
                self._disturbed(label)
                if self._policy is None
                else chunk[step % plan.execution_horizon]
            )
            command = command + np.clip(action - command, -self._limit, self._limit)
            if record and label is not None:
                frames.append(self._frame(images, command, label))
                lingered += world.status().success
            world.step(command)
            step += 1
        return frames

    def _disturbed(self, label: NDArray[np.float64]) -> NDArray[np.float64]:
        return self._bursts.disturb(label[0], self._world.proprio())

    def _ask(self, episode: EpisodeSpec, images: dict, step: int) -> NDArray[np.float64]:
        assert self._policy is not None
        time_ns = step * self._world.embodiment.step_ns
        observation = Observation(time_ns, images, self._world.proprio(), episode.instruction)
        return self._policy.infer(observation).actions

    def _frame(
        self,
        images: dict[str, NDArray[np.uint8]],
        command: NDArray[np.float64],
        label: NDArray[np.float64],
    ) -> dict[str, Any]:
        world, facts = self._world, self._world.facts()
        named = facts.cubes[world.colour]
        goal = (
            facts.bowl if world.episode is not None and world.episode.family == "place" else named
        )
        pixels = [project(world.model, world.data, camera, named) for camera in world.camera_ids]
        frame: dict[str, Any] = {keys.image_key(name): image for name, image in images.items()}
        return frame | {
            keys.PROPRIO: world.proprio().astype(np.float32),
            keys.ACTION: command.astype(np.float32),
            keys.EXPERT_CHUNK: label.astype(np.float32),
            keys.NAMED_OBJECT: named.astype(np.float32),
            keys.GOAL: goal.astype(np.float32),
            keys.NAMED_OBJECT_PIXELS: np.array(pixels, np.float32),
            keys.DRIVER: np.array([self._policy is not None], np.int64),
        }
