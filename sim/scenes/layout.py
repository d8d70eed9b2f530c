"""Where things stand at the start of an episode: a pure function of family and seed."""

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moxin_sim.robots.so101_kinematics import PAN_X_M
from moxin_sim.scenes.tabletop import BOWL_RADIUS_M, COLOURS

CUBES_PRESENT = 3
_RADIUS_M = (0.145, 0.265)  # from the pan axis: where the gripper reaches the table
_BEARING_RAD = 1.05
_CUBE_SPACING_M = 0.075
_BOWL_SPACING_M = BOWL_RADIUS_M + 0.062
_BOWL_RADIUS_RANGE_M = (0.17, 0.25)
_MAX_YAW_RAD = 0.35
_ATTEMPTS = 10_000


@dataclass(frozen=True, slots=True)
class Layout:
    """Starting poses: cubes colour -> (x, y, yaw) in [m], [m], [rad]; bowl (x, y); grasp point of
    the arm (x, y, z).
    """

    cubes: dict[str, tuple[float, float, float]]
    bowl: tuple[float, float]
    start: tuple[float, float, float]


def _rng(family: str, seed: int, stream: int) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(family.encode()), stream])


def present_colours(family: str, seed: int) -> tuple[str, ...]:
    """Return the colours of the cubes that stand in the scene, in a fixed order."""
    chosen = _rng(family, seed, 2).permutation(len(COLOURS))[:CUBES_PRESENT]
    return tuple(colour for i, colour in enumerate(COLOURS) if i in chosen)


def sample_layout(family: str, seed: int) -> Layout:
    """Draw a layout in which nothing overlaps and the gripper fits between things."""
    rng = _rng(family, seed, 3)
    colours = present_colours(family, seed)
    for _ in range(_ATTEMPTS):
        bowl = _polar(rng, _BOWL_RADIUS_RANGE_M)
        cubes = [_polar(rng, _RADIUS_M) for _ in colours]
        if _fits(bowl, cubes):
            break
    yaws = rng.uniform(-_MAX_YAW_RAD, _MAX_YAW_RAD, len(colours))
    bearings = [np.arctan2(c[1], c[0] - PAN_X_M) for c in cubes]
    start = (rng.uniform(0.14, 0.19), rng.uniform(-0.05, 0.05), rng.uniform(0.085, 0.115))
    return Layout(
        cubes={
            colour: (float(c[0]), float(c[1]), float(b + yaw))
            for colour, c, b, yaw in zip(colours, cubes, bearings, yaws, strict=True)
        },
        bowl=(float(bowl[0]), float(bowl[1])),
        start=tuple(float(v) for v in start),
    )


def _polar(rng: np.random.Generator, radius: tuple[float, float]) -> NDArray[np.float64]:
    r = np.sqrt(rng.uniform(radius[0] ** 2, radius[1] ** 2))
    bearing = rng.uniform(-_BEARING_RAD, _BEARING_RAD)
    return np.array([PAN_X_M + r * np.cos(bearing), r * np.sin(bearing)])


def _fits(bowl: NDArray[np.float64], cubes: list[NDArray[np.float64]]) -> bool:
    if any(np.linalg.norm(bowl - cube) < _BOWL_SPACING_M for cube in cubes):
        return False
    return all(
        np.linalg.norm(a - b) >= _CUBE_SPACING_M for i, a in enumerate(cubes) for b in cubes[:i]
    )
