"""The tabletop with the names that LeRobot's rollout asks for."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from moxin_sim.envs import TabletopEnv
from moxin_sim.tasks import family_of


class LeRobotTabletop(gymnasium.Wrapper):
    """`TabletopEnv` as LeRobot's rollout drives it.

    Observation: `pixels` (camera name -> uint8 (height, width, 3)), `agent_pos` (6,) in [rad].
    Action: absolute joint targets (6,), in [rad].

    Args:
        family: `touch`, `pick` or `place`.
        embodiment: Embodiment file.
    """

    def __init__(self, family: str, embodiment: str) -> None:
        super().__init__(TabletopEnv(family, Path(embodiment), render_mode="rgb_array"))
        space = self.env.observation_space
        self.observation_space = spaces.Dict(
            {"pixels": space["pixels"], "agent_pos": space["proprio"]}
        )
        self.task = family
        self.task_description = ""
        self._max_episode_steps = family_of(family).horizon

    def reset(self, **how: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Set up a scene; see `TabletopEnv.reset`."""
        observation, info = self.env.reset(seed=how.get("seed"))
        return self._renamed(observation), info

    def step(
        self, action: NDArray[np.floating]
    ) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Apply joint targets for one control period."""
        observation, *rest = self.env.step(np.asarray(action, np.float64))
        return (self._renamed(observation), *rest)

    def _renamed(self, observation: dict[str, Any]) -> dict[str, Any]:
        self.task_description = observation["instruction"]
        return {"pixels": observation["pixels"], "agent_pos": observation["proprio"]}
