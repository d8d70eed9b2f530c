"""Put the named cube in the bowl."""

import numpy as np

from moxin_sim.scenes.tabletop import BOWL_HEIGHT_M, BOWL_RADIUS_M
from moxin_sim.tasks.base import SceneFacts


class Place:
    """Success: the named cube lies inside the bowl, released, for a quarter of a second."""

    name = "place"
    templates = ("put the {colour} cube in the bowl", "place the {colour} cube into the bowl")
    horizon = 240

    def reached(self, facts: SceneFacts, colour: str) -> bool:
        """Return whether the cube is inside the bowl and out of the gripper."""
        offset = facts.cubes[colour] - facts.bowl
        inside = np.hypot(offset[0], offset[1]) < BOWL_RADIUS_M and offset[2] < BOWL_HEIGHT_M
        return bool(inside) and colour not in facts.touched

    def steps_to_hold(self) -> int:
        """A quarter of a second at 20 Hz."""
        return 5

    def forbidden(self, facts: SceneFacts, colour: str) -> str:
        """Nothing beyond moving another cube."""
        return ""
