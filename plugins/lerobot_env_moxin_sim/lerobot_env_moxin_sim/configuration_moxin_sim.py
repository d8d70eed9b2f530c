"""What LeRobot's commands can say about the environment: `--env.NAME=VALUE`."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import gymnasium
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.envs.configs import EnvConfig
from lerobot.utils.constants import ACTION, OBS_IMAGES, OBS_STATE

from moxin_vla.core.embodiment import load_embodiment
from moxin_vla.core.resources import resource_path

_ROBOT = "config/embodiments/so101_sim.yaml"


@EnvConfig.register_subclass("moxin_sim")
@dataclass
class MoxinSimEnv(EnvConfig):
    """The SO-101 tabletop.

    Attributes:
        task: Task families, comma separated: touch, pick, place.
        fps: Control rate, in [Hz].
        embodiment: Robot; empty: the shipped one.
    """

    task: str | None = "pick"
    fps: int = 20
    embodiment: str = ""
    features: dict[str, PolicyFeature] = field(default_factory=dict)
    features_map: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        robot = load_embodiment(self._file)
        if self.fps != robot.control_rate_hz:
            raise ValueError(f"moxin_sim runs at {robot.control_rate_hz:g} Hz. Got fps={self.fps}")
        vector = {"shape": (robot.dof,)}
        self.features = {
            ACTION: PolicyFeature(FeatureType.ACTION, **vector),
            "agent_pos": PolicyFeature(FeatureType.STATE, **vector),
        }
        self.features_map = {ACTION: ACTION, "agent_pos": OBS_STATE}
        for camera in robot.cameras:
            key = f"pixels/{camera.name}"
            shape = (camera.height, camera.width, 3)
            self.features[key] = PolicyFeature(FeatureType.VISUAL, shape)
            self.features_map[key] = f"{OBS_IMAGES}.{camera.name}"

    @property
    def gym_kwargs(self) -> dict[str, Any]:
        """What every environment is made with."""
        return {"embodiment": self._file}

    def create_envs(
        self, n_envs: int, use_async_envs: bool = False
    ) -> dict[str, dict[int, gymnasium.vector.VectorEnv]]:
        """Return `n_envs` environments for each task; the simulator is imported where it runs."""
        families = [name.strip() for name in (self.task or "").split(",")]
        how: dict[str, Any] = {"autoreset_mode": AutoresetMode.SAME_STEP}
        kind: Any = SyncVectorEnv
        if use_async_envs and n_envs > 1:
            kind = AsyncVectorEnv
            how["context"] = "forkserver"
        made = {
            number: kind([partial(make, family, self._file)] * n_envs, **how)
            for number, family in enumerate(families)
        }
        return {"moxin_sim": made}

    @property
    def _file(self) -> str:
        return self.embodiment or str(resource_path(_ROBOT))


def make(family: str, embodiment: str) -> gymnasium.Env:
    """Make one environment, in the process that will step it."""
    from lerobot_env_moxin_sim.tabletop import LeRobotTabletop

    return LeRobotTabletop(family, embodiment)
