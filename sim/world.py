"""The tabletop as a `World`: reset by seed, step by control period, judge by privileged state."""

import mujoco
import numpy as np
from numpy.typing import NDArray

from moxin_sim.rendering import Renderer
from moxin_sim.robots import so101, so101_kinematics
from moxin_sim.scenes import tabletop
from moxin_sim.scenes.layout import Layout, sample_layout
from moxin_sim.tasks import family_of, named_colour
from moxin_sim.tasks.base import SceneFacts
from moxin_vla.core.embodiment import Embodiment
from moxin_vla.core.errors import EmbodimentError, SimulationError, listed
from moxin_vla.core.protocols import EpisodeSpec, EpisodeStatus

APPROACH_PITCH_RAD = 1.31  # the gripper points down and 15 degrees outward
_MOVED_M = 0.012  # another cube displaced this far counts as moved
_PARKED = (-5.0, 0.0)  # where cubes that are not in the scene wait, out of sight
_CAMERAS = {"front": "front", "wrist": so101.WRIST_CAMERA}


class Tabletop:
    """The SO-101 at a table with cubes and a bowl. One thread drives it; rendering starts on first
    use.

    Args:
        embodiment: The robot; must be this one.
        stock_visuals: Keep the full-resolution visual meshes.
        fast_rendering: Render without shadows and reflections.
        horizon: Control steps of an episode; None for those of its task family.

    Raises:
        EmbodimentError: The embodiment's joints or cameras are not this robot's.
    """

    def __init__(
        self,
        embodiment: Embodiment,
        stock_visuals: bool = False,
        fast_rendering: bool = True,
        horizon: int | None = None,
    ) -> None:
        _check(embodiment)
        self.embodiment = embodiment
        self.model = tabletop.build(stock_visuals)
        self.data = mujoco.MjData(self.model)
        self._fast_rendering, self._horizon = fast_rendering, horizon
        self._renderer: Renderer | None = None
        self._substeps = round(1.0 / embodiment.control_rate_hz / tabletop.PHYSICS_STEP_S)
        self._joints = len(so101.JOINT_NAMES)
        self._bodies = {
            colour: self.model.body(tabletop.cube_body(colour)).id for colour in tabletop.COLOURS
        }
        self._geoms = {
            self.model.geom(tabletop.cube_body(colour)).id: colour for colour in tabletop.COLOURS
        }
        self._jaw = {g: self._jaw_of(g) for g in range(self.model.ngeom)}
        self.episode: EpisodeSpec | None = None

    def _jaw_of(self, geom: int) -> str:
        body = self.model.body(self.model.geom_bodyid[geom]).name
        return {"gripper": "fixed", "camera_mount": "fixed", "moving_jaw_so101_v1": "moving"}.get(
            body, ""
        )

    def reset(self, episode: EpisodeSpec) -> None:
        """Set up the scene of `episode`, arm above the table; see `World.reset`."""
        self._task, self._colour = family_of(episode.family), named_colour(episode)
        self._layout = sample_layout(episode.family, episode.seed)
        mujoco.mj_resetData(self.model, self.data)
        self._place(self._layout)
        self.episode, self._step, self._held_steps = episode, 0, 0
        self._success, self._failure = False, ""
        self._start = {colour: self._cube(colour) for colour in self._layout.cubes}

    def _place(self, layout: Layout) -> None:
        arm, _ = so101_kinematics.inverse(layout.start, APPROACH_PITCH_RAD)
        joints = np.append(arm, so101.HOME_RAD[5])
        self.data.qpos[: self._joints] = joints
        self.data.ctrl[:] = joints
        for i, colour in enumerate(tabletop.COLOURS):
            x, y, yaw = layout.cubes.get(colour, (_PARKED[0], _PARKED[1] + 0.1 * i, 0.0))
            address = self.model.jnt_qposadr[
                self.model.joint(f"{tabletop.cube_body(colour)}_joint").id
            ]
            self.data.qpos[address : address + 3] = [x, y, tabletop.CUBE_HALF_M]
            self.data.qpos[address + 3 : address + 7] = [np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)]
        self.model.body("bowl").pos[:2] = layout.bowl
        mujoco.mj_forward(self.model, self.data)

    def proprio(self) -> NDArray[np.float64]:
        """Return measured joint positions, shape (6,), in [rad]."""
        return self.data.qpos[: self._joints].copy()

    def images(self) -> dict[str, NDArray[np.uint8]]:
        """Render the embodiment's cameras now: name -> RGB uint8 (height, width, 3)."""
        return {
            camera.name: self._render(_CAMERAS[camera.name], camera.width, camera.height)
            for camera in self.embodiment.cameras
        }

    @property
    def camera_ids(self) -> tuple[str, ...]:
        """Names in the MuJoCo model of the embodiment's cameras, in their order."""
        return tuple(_CAMERAS[camera.name] for camera in self.embodiment.cameras)

    def camera_fovy_deg(self, name: str) -> float:
        """Return a camera's vertical field of view, in [deg]."""
        return float(self.model.cam_fovy[self.model.camera(_CAMERAS[name]).id])

    def video_frame(self, width: int = 320, height: int = 240) -> NDArray[np.uint8]:
        """Render the bystander's view for a video, shape (height, width, 3)."""
        return self._render("overview", width, height)

    def _render(self, camera: str, width: int, height: int) -> NDArray[np.uint8]:
        if self._renderer is None:
            self._renderer = Renderer(self.model, self._fast_rendering)
        return self._renderer.render(self.data, camera, width, height)

    def step(self, positions: NDArray[np.float64]) -> None:
        """Command joint targets of shape (6,), in [rad], and advance one control period."""
        if self.episode is None:
            raise SimulationError("The world was stepped before its first reset.")
        self.data.ctrl[:] = positions
        mujoco.mj_step(self.model, self.data, nstep=self._substeps)
        mujoco.mj_forward(self.model, self.data)
        self._step += 1
        if not self.status().done:
            self._judge(self.facts())

    def _judge(self, facts: SceneFacts) -> None:
        self._failure = self._moved_other(facts) or self._task.forbidden(facts, self._colour)
        self._held_steps = self._held_steps + 1 if self._task.reached(facts, self._colour) else 0
        self._success = not self._failure and self._held_steps >= self._task.steps_to_hold()

    def _moved_other(self, facts: SceneFacts) -> str:
        for colour, start in self._start.items():
            if colour != self._colour and np.linalg.norm(facts.cubes[colour] - start) > _MOVED_M:
                return f"moved the {colour} cube"
        return ""

    def facts(self) -> SceneFacts:
        """Return the privileged state: for predicates, experts and training labels, never for a
        policy.
        """
        contacts = self._contacts()
        return SceneFacts(
            cubes={colour: self._cube(colour) for colour in self._layout.cubes},
            touched=frozenset(contacts),
            held=frozenset(colour for colour, jaws in contacts.items() if len(jaws) == 2),
            bowl=self.model.body("bowl").pos.copy(),
            joints=self.proprio(),
        )

    def _contacts(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for one, two in self.data.contact.geom:
            for cube, other in ((one, two), (two, one)):
                if cube in self._geoms and self._jaw[other]:
                    found.setdefault(self._geoms[cube], set()).add(self._jaw[other])
        return found

    def _cube(self, colour: str) -> NDArray[np.float64]:
        return self.data.xpos[self._bodies[colour]].copy()

    @property
    def colour(self) -> str:
        """Colour of the cube that the running episode names."""
        return self._colour

    def status(self) -> EpisodeStatus:
        """Return how the running episode stands."""
        horizon = self._horizon or self._task.horizon
        return EpisodeStatus(self._step, horizon, self._success, self._failure)

    def close(self) -> None:
        """Free the renderer. Idempotent."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None


def _check(embodiment: Embodiment) -> None:
    if embodiment.joint_names != so101.JOINT_NAMES:
        raise EmbodimentError(
            f"The simulator's robot does not fit embodiment '{embodiment.name}': joints differ.\n"
            f"  found in the simulator:     {listed(so101.JOINT_NAMES)}\n"
            f"  expected by the embodiment: {listed(embodiment.joint_names)}"
        )
    if unknown := [name for name in embodiment.camera_names if name not in _CAMERAS]:
        raise EmbodimentError(
            f"The simulator has no camera {listed(unknown)}. It has: {listed(_CAMERAS)}"
        )
