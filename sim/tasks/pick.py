"""Pick up the named cube."""

from moxin_sim.scenes.tabletop import CUBE_HALF_M
from moxin_sim.tasks.base import SceneFacts

LIFT_M = 0.04  # clearance between the cube and the table


class Pick:
    """Success: the named cube is held clear of the table for a quarter of a second."""

    name = "pick"
    templates = ("pick up the {colour} cube", "lift the {colour} cube")
    horizon = 160

    def reached(self, facts: SceneFacts, colour: str) -> bool:
        """Return whether the cube is in the gripper and clear of the table."""
        return colour in facts.touched and facts.cubes[colour][2] > CUBE_HALF_M + LIFT_M

    def steps_to_hold(self) -> int:
        """A quarter of a second at 20 Hz."""
        return 5

    def forbidden(self, facts: SceneFacts, colour: str) -> str:
        """Nothing beyond moving another cube."""
        return ""
