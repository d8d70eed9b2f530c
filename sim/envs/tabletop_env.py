"""The tabletop as a Gymnasium environment: absolute joint targets in, images, proprio and
instruction out.
"""

from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from moxin_sim.tasks import family_of, instructions, sample_episode
from moxin_sim.world import Tabletop
from moxin_vla.core.embodiment import load_embodiment
from moxin_vla.core.protocols import EpisodeSpec
from moxin_vla.core.resources import resource_path

_CHARACTERS = "".join(sorted(set("".join(instructions()))))
_LONGEST = max(len(text) for text in instructions())


class TabletopEnv(gymnasium.Env):
    """One task family of the SO-101 tabletop.

    Observation: `pixels` (camera name -> uint8 (height, width, 3)), `proprio` (6,) in [rad],
        `instruction` text.
    Action: joint position targets (6,), in [rad], applied for one control period (50 ms).
    Reward: 1 on success, else 0. Terminates on success or failure, truncates at the family's
        horizon.
    `reset(seed=s)` sets up the scene of seed s; `options={"instruction": ...}` names another cube
    of the same scene.

    Args:
        family: `touch`, `pick` or `place`.
        embodiment: Embodiment file; the shipped one if None.
        render_mode: `rgb_array` or None.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 20}

    def __init__(
        self, family: str = "pick", embodiment: Path | None = None, render_mode: str | None = None
    ) -> None:
        family_of(family)
        self.family, self.render_mode = family, render_mode
        self.world = Tabletop(
            load_embodiment(embodiment or resource_path("config/embodiments/so101_sim.yaml"))
        )
        robot = self.world.embodiment
        low, high = robot.position_lower.copy(), robot.position_upper.copy()
        self.action_space = spaces.Box(low, high, dtype=np.float64)
        pixels = {
            camera.name: spaces.Box(0, 255, (camera.height, camera.width, 3), np.uint8)
            for camera in robot.cameras
        }
        unbounded = np.full(robot.dof, 2 * np.pi)
        self.observation_space = spaces.Dict(
            {
                "pixels": spaces.Dict(pixels),
                "proprio": spaces.Box(-unbounded, unbounded, dtype=np.float64),
                "instruction": spaces.Text(_LONGEST, charset=_CHARACTERS),
            }
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Set up the scene of `seed`, or of a random one; see `gymnasium.Env.reset`."""
        super().reset(seed=seed)
        scene = int(self.np_random.integers(2**31)) if seed is None else seed
        spec = sample_episode(self.family, scene)
        if options and "instruction" in options:
            spec = EpisodeSpec(scene, self.family, options["instruction"])
        self._spec = spec
        self.world.reset(spec)
        return self._observation(), self._info()

    def step(
        self, action: NDArray[np.float64]
    ) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Apply joint targets for one control period; see `gymnasium.Env.step`."""
        space = self.action_space
        self.world.step(np.clip(action, space.low, space.high))
        status = self.world.status()
        ended = status.success or bool(status.failure)
        return (
            self._observation(),
            float(status.success),
            ended,
            status.done and not ended,
            self._info(),
        )

    def render(self) -> NDArray[np.uint8] | None:
        """Return the bystander's view (240, 320, 3) in `rgb_array` mode."""
        return self.world.video_frame() if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """Free the renderer."""
        self.world.close()

    def _observation(self) -> dict[str, Any]:
        return {
            "pixels": self.world.images(),
            "proprio": self.world.proprio(),
            "instruction": self._spec.instruction,
        }

    def _info(self) -> dict[str, Any]:
        status = self.world.status()
        return {"is_success": status.success, "failure": status.failure, "seed": self._spec.seed}
