"""A table with the SO-101, four coloured cubes and a bowl, built with MjSpec. Lengths in [m], base
frame = world frame.
"""

from dataclasses import dataclass

import mujoco
import numpy as np

from moxin_sim.robots import so101

COLOURS = {
    "red": (0.85, 0.10, 0.10, 1.0),
    "green": (0.10, 0.65, 0.20, 1.0),
    "blue": (0.10, 0.25, 0.90, 1.0),
    "purple": (0.60, 0.15, 0.75, 1.0),
}
CUBE_HALF_M = 0.0125
CUBE_MASS_KG = 0.02
BOWL_RADIUS_M = 0.048  # inner
BOWL_HEIGHT_M = 0.028
_BOWL_WALLS = 12
_BOWL_WALL_HALF_M = 0.003

PHYSICS_STEP_S = 0.005


@dataclass(frozen=True, slots=True)
class CameraView:
    """A fixed camera: where it stands, what it looks at [m], vertical field of view [deg]."""

    position: tuple[float, float, float]
    target: tuple[float, float, float]
    fovy_deg: float


FRONT = CameraView((0.60, 0.0, 0.36), (0.195, 0.0, 0.03), 45.0)
OVERVIEW = CameraView((0.58, -0.40, 0.36), (0.16, 0.0, 0.05), 42.0)
WRIST_FOVY_DEG = 62.0


def build(stock_visuals: bool = False) -> mujoco.MjModel:
    """Compile the scene.

    Args:
        stock_visuals: Keep the full-resolution visual meshes; only for the rendering benchmark.
    """
    spec = so101.arm_spec(stock_visuals)
    spec.option.timestep = PHYSICS_STEP_S
    spec.visual.global_.offwidth, spec.visual.global_.offheight = 640, 480
    spec.visual.headlight.ambient = [0.35, 0.35, 0.35]
    spec.visual.headlight.diffuse = [0.3, 0.3, 0.3]
    spec.visual.headlight.specular = [0, 0, 0]
    world = spec.worldbody
    world.add_light(
        pos=[0.3, 0.3, 1.5], dir=[-0.1, -0.2, -1], type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL
    )
    world.add_geom(
        name="table",
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=[8, 8, 0.5],
        rgba=[0.62, 0.58, 0.52, 1],
        condim=4,
    )
    for name, rgba in COLOURS.items():
        _add_cube(world, name, rgba)
    _add_bowl(world)
    _add_camera(world, "front", FRONT)
    _add_camera(world, "overview", OVERVIEW)
    wrist = spec.camera(so101.WRIST_CAMERA)
    wrist.fovy = WRIST_FOVY_DEG
    wrist.resolution = [96, 96]
    return spec.compile()


def cube_body(colour: str) -> str:
    """Name of the body of the `colour` cube."""
    return f"{colour}_cube"


def _add_cube(world: mujoco.MjsBody, colour: str, rgba: tuple[float, ...]) -> None:
    body = world.add_body(name=cube_body(colour), pos=[-5.0, 0.0, CUBE_HALF_M])
    body.add_freejoint(name=f"{cube_body(colour)}_joint")
    body.add_geom(
        name=cube_body(colour),
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=[CUBE_HALF_M] * 3,
        mass=CUBE_MASS_KG,
        rgba=rgba,
        friction=[1.0, 0.01, 0.001],
        condim=4,
    )


def _add_bowl(world: mujoco.MjsBody) -> None:
    """A heavy bowl, fixed to the table: a floor and a ring of walls; moved at reset."""
    body = world.add_body(name="bowl", pos=[0.2, 0.15, 0.0])
    rgba = [0.93, 0.93, 0.95, 1]
    body.add_geom(
        name="bowl_floor",
        type=mujoco.mjtGeom.mjGEOM_CYLINDER,
        size=[BOWL_RADIUS_M, 0.002, 0],
        pos=[0, 0, 0.002],
        rgba=rgba,
    )
    side = BOWL_RADIUS_M * np.tan(np.pi / _BOWL_WALLS) + _BOWL_WALL_HALF_M
    for i in range(_BOWL_WALLS):
        angle = 2 * np.pi * i / _BOWL_WALLS
        radius = BOWL_RADIUS_M + _BOWL_WALL_HALF_M
        body.add_geom(
            name=f"bowl_wall_{i}",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=[_BOWL_WALL_HALF_M, side, BOWL_HEIGHT_M / 2],
            pos=[radius * np.cos(angle), radius * np.sin(angle), BOWL_HEIGHT_M / 2],
            quat=[np.cos(angle / 2), 0, 0, np.sin(angle / 2)],
            rgba=rgba,
        )


def _add_camera(world: mujoco.MjsBody, name: str, view: CameraView) -> None:
    position, target = np.array(view.position), np.array(view.target)
    backward = (position - target) / np.linalg.norm(position - target)
    right = np.cross([0, 0, 1], backward)
    right /= np.linalg.norm(right)
    up = np.cross(backward, right)
    world.add_camera(name=name, pos=position, xyaxes=[*right, *up], fovy=view.fovy_deg)
