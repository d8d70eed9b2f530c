"""Touch the named cube with the gripper, and no other."""

from moxin_sim.tasks.base import SceneFacts


class Touch:
    """Success: the gripper touches the named cube. Failure: it touches another one first."""

    name = "touch"
    templates = ("touch the {colour} cube", "reach the {colour} cube")
    horizon = 100

    def reached(self, facts: SceneFacts, colour: str) -> bool:
        """Return whether the gripper touches the cube."""
        return colour in facts.touched

    def steps_to_hold(self) -> int:
        """One tick is a touch."""
        return 1

    def forbidden(self, facts: SceneFacts, colour: str) -> str:
        """Name another cube that is touched."""
        others = sorted(facts.touched - {colour})
        return f"touched the {others[0]} cube" if others else ""
