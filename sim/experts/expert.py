"""The expert: reads privileged facts, follows the field, answers in joint targets."""

import numpy as np
from numpy.typing import NDArray

from moxin_sim.experts.field import GRASPED_RAD, Virtual, advance
from moxin_sim.robots import so101_kinematics
from moxin_sim.tasks.base import SceneFacts
from moxin_sim.world import APPROACH_PITCH_RAD, Tabletop
from moxin_vla.core.protocols import PolicySpec
from moxin_vla.core.types import ActionChunk, Observation

HORIZON = 16


class Expert:
    """Labels any state of the tabletop with the chunk that solves the episode from there."""

    def __init__(self, world: Tabletop, horizon: int = HORIZON) -> None:
        self._world, self.horizon = world, horizon

    def chunk(self, facts: SceneFacts | None = None) -> NDArray[np.float64]:
        """Return absolute joint targets for the next steps, shape (H, 6), in [rad]."""
        facts = facts or self._world.facts()
        assert self._world.episode is not None
        family, state = self._world.episode.family, self._virtual(facts)
        points, jaws = [], []
        for _ in range(self.horizon):
            state, jaw = advance(state, family)
            points.append(state.point)
            jaws.append(jaw)
        arm, _ = so101_kinematics.inverse(np.array(points), APPROACH_PITCH_RAD)
        return np.column_stack([arm, jaws])

    def _virtual(self, facts: SceneFacts) -> Virtual:
        colour = self._world.colour
        point, _ = so101_kinematics.forward(facts.joints)
        cube = facts.cubes[colour]
        held = colour in facts.held and facts.joints[5] < GRASPED_RAD + 0.08
        return Virtual(
            point=tuple(float(v) for v in point),
            jaw=float(facts.joints[5]),
            cube=tuple(float(v) for v in cube),
            held=bool(held),
            bowl=(float(facts.bowl[0]), float(facts.bowl[1])),
        )


class ExpertPolicy:
    """The expert behind the `Policy` protocol: it ignores the images and looks into the simulator.
    For checks and recording.
    """

    def __init__(self, world: Tabletop) -> None:
        self._expert = Expert(world)
        embodiment = world.embodiment
        self._step_ns = embodiment.step_ns
        self._spec = PolicySpec(
            name="expert",
            joints=embodiment.joint_names,
            cameras=(),
            horizon=HORIZON,
            control_rate_hz=embodiment.control_rate_hz,
        )

    @property
    def spec(self) -> PolicySpec:
        """What it needs (nothing) and gives."""
        return self._spec

    def reset(self) -> None:
        """Nothing to forget: the field has no memory."""

    def infer(self, observation: Observation) -> ActionChunk:
        """Return the expert's plan from the simulator's present state."""
        return ActionChunk(observation.time_ns, self._step_ns, self._expert.chunk())
