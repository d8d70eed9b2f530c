"""Where the grasp point should go next: a velocity field per task family, a pure function of the
present state.

A plan with phases in memory can't label a state that a policy drifted into. A field can: it asks
only where the grasp point, the jaws and the cubes are now. Over the named cube hangs a funnel: the
nearer in the plane, the lower the grasp point may come.

      z |\\            /     clearance(rho) = CLEARANCE_M once rho > ~3 cm
        | \\          /      grasp height    at rho = 0
        |  \\________/
        +------------------ rho, distance to the cube in the plane
"""

import math
from dataclasses import dataclass, replace

OPEN_RAD, CLOSED_RAD, GRASPED_RAD = (
    0.42,
    -0.10,
    0.11,
)  # gripper: ready, command to squeeze, stopped by a cube
JAW_STEP_RAD = 0.10  # how fast the jaws follow
JAW_LEAD_RAD = (
    0.20  # how far the command runs ahead of them: a firm squeeze once they stop on a cube
)
GRASP_Z_M, TOUCH_Z_M = 0.012, 0.021
CLEARANCE_M, LIFTED_Z_M, CARRY_Z_M, RELEASE_Z_M = 0.075, 0.095, 0.095, 0.068
_FUNNEL_FLAT_M, _FUNNEL_SLOPE = 0.006, 2.5
_MAX_STEP_M, _GAIN, _MIN_STEP_M = 0.012, 0.35, 0.0015
_AT_GRASP_M, _AT_GRASP_Z_M, _AT_BOWL_M = 0.008, 0.007, 0.012


@dataclass(frozen=True, slots=True)
class Virtual:
    """State of the field's rollout: grasp point [m], gripper angle [rad], and how the world
    answers it.

    Attributes:
        point: Grasp point (x, y, z).
        jaw: Gripper angle.
        cube: Named cube's centre (x, y, z).
        held: Whether the cube is in the jaws.
        bowl: Bowl centre (x, y).
    """

    point: tuple[float, float, float]
    jaw: float
    cube: tuple[float, float, float]
    held: bool
    bowl: tuple[float, float]


def advance(state: Virtual, family: str) -> tuple[Virtual, float]:
    """Move one control step along the field; returns the next state and the gripper command in
    [rad].
    """
    following, goal = _advance(state, family)
    return following, _towards(state.jaw, goal, JAW_LEAD_RAD)


def _advance(state: Virtual, family: str) -> tuple[Virtual, float]:
    if family == "touch":
        return _touch(state)
    if family == "place" and _in_bowl(state):
        return _retreat(state)
    if state.held:
        return _carry(state) if family == "place" else _lift(state)
    return _approach(state)


def _touch(s: Virtual) -> tuple[Virtual, float]:
    # Closed jaws meet at the fixed jaw, radially inside the grasp point, so the point aims beyond
    # the cube.
    radius = math.hypot(s.cube[0] - 0.039, s.cube[1])
    beyond = (radius + 0.020) / radius
    goal = (0.039 + (s.cube[0] - 0.039) * beyond, s.cube[1] * beyond)
    return replace(
        s, point=_descend(s.point, goal, TOUCH_Z_M), jaw=_towards(s.jaw, CLOSED_RAD, JAW_STEP_RAD)
    ), CLOSED_RAD


def _approach(s: Virtual) -> tuple[Virtual, float]:
    goal = (s.cube[0], s.cube[1])
    rho = math.dist(s.point[:2], goal)
    if rho < _AT_GRASP_M and s.point[2] < GRASP_Z_M + _AT_GRASP_Z_M:
        jaw = _towards(s.jaw, CLOSED_RAD, JAW_STEP_RAD)
        point = _descend(s.point, goal, GRASP_Z_M)
        return replace(
            s, point=point, jaw=max(jaw, GRASPED_RAD), held=jaw <= GRASPED_RAD
        ), CLOSED_RAD
    jaw = _towards(s.jaw, OPEN_RAD, JAW_STEP_RAD)
    if jaw < OPEN_RAD - 0.12 and s.point[2] < CLEARANCE_M - 0.015 and rho < 0.05:
        point = (
            s.point[0],
            s.point[1],
            s.point[2] + _MAX_STEP_M,
        )  # closed on nothing: rise while opening
    else:
        point = _descend(s.point, goal, GRASP_Z_M)
    return replace(s, point=point, jaw=jaw), OPEN_RAD


def _lift(s: Virtual) -> tuple[Virtual, float]:
    point = (s.point[0], s.point[1], s.point[2] + _step(LIFTED_Z_M - s.point[2]))
    return _with_cube(s, point), CLOSED_RAD


def _carry(s: Virtual) -> tuple[Virtual, float]:
    dx, dy = (
        s.bowl[0] - s.cube[0],
        s.bowl[1] - s.cube[1],
    )  # bring the cube over the bowl, wherever the jaws hold it
    rho = math.hypot(dx, dy)
    if rho < _AT_BOWL_M and s.point[2] < RELEASE_Z_M + 0.008:
        return _release(s), OPEN_RAD
    if s.point[2] < CARRY_Z_M - 0.015 and rho > 0.03:
        point = (s.point[0], s.point[1], s.point[2] + _step(CARRY_Z_M - s.point[2]))
    else:
        height = RELEASE_Z_M if rho < _AT_BOWL_M else CARRY_Z_M
        share = _step(rho) / rho if rho > 1e-9 else 0.0
        point = (
            s.point[0] + dx * share,
            s.point[1] + dy * share,
            s.point[2] + _step(height - s.point[2]),
        )
    return _with_cube(s, point), CLOSED_RAD


def _release(s: Virtual) -> Virtual:
    jaw = _towards(s.jaw, OPEN_RAD, JAW_STEP_RAD)
    open_enough = jaw > GRASPED_RAD + 0.15
    cube = (s.bowl[0], s.bowl[1], 0.016) if open_enough else s.cube
    return replace(s, jaw=jaw, held=not open_enough, cube=cube)


def _retreat(s: Virtual) -> tuple[Virtual, float]:
    point = (s.point[0], s.point[1], s.point[2] + _step(CARRY_Z_M - s.point[2]))
    return replace(
        s, point=point, jaw=_towards(s.jaw, OPEN_RAD, JAW_STEP_RAD), held=False
    ), OPEN_RAD


def _in_bowl(s: Virtual) -> bool:
    near = math.dist(s.cube[:2], s.bowl) < 0.05
    return near and (s.cube[2] < 0.03 or (not s.held and s.jaw > GRASPED_RAD + 0.05))


def _with_cube(s: Virtual, point: tuple[float, float, float]) -> Virtual:
    cube = tuple(c + (p - q) for c, p, q in zip(s.cube, point, s.point, strict=True))
    return replace(s, point=point, jaw=_towards(s.jaw, GRASPED_RAD, JAW_STEP_RAD), cube=cube)


def _descend(
    point: tuple[float, float, float], goal: tuple[float, float], floor: float
) -> tuple[float, float, float]:
    dx, dy = goal[0] - point[0], goal[1] - point[1]
    rho = math.hypot(dx, dy)
    height = floor + min(CLEARANCE_M - floor, max(0.0, (rho - _FUNNEL_FLAT_M) * _FUNNEL_SLOPE))
    below = height - point[2]
    share = _step(rho) / rho if rho > 1e-9 else 0.0
    if below > 0.02:
        share *= 0.3  # too low to travel: rise first
    return (point[0] + dx * share, point[1] + dy * share, point[2] + _step(below))


def _step(distance: float) -> float:
    """Proportional step with a largest and a smallest size, never past the goal."""
    size = min(abs(distance), max(_MIN_STEP_M, min(_MAX_STEP_M, _GAIN * abs(distance))))
    return math.copysign(size, distance)


def _towards(value: float, goal: float, step: float) -> float:
    return value + max(-step, min(step, goal - value))
