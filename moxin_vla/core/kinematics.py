"""Where the end effector is: a serial chain, with the numbers of a URDF.

base --xyz, rpy--> link 0 --rotate about axis by q_0--xyz, rpy--> link 1 ... --tool--> end effector
"""

from dataclasses import dataclass

from moxin_vla.core.errors import EmbodimentError, listed

type Vector = tuple[float, ...]  # of length 3


@dataclass(frozen=True, slots=True)
class Link:
    """A joint on the way to the end effector, as in a URDF.

    Attributes:
        joint: Name of one of the embodiment's joints; it turns.
        xyz: Origin of the joint in the frame of the link before, in [m].
        rpy: Its fixed rotation there: roll, pitch, yaw about fixed axes, in [rad].
        axis: What it turns about, in its own frame; of any length but zero.
    """

    joint: str
    xyz: Vector
    rpy: Vector
    axis: Vector

    def __post_init__(self) -> None:
        if not any(self.axis):
            raise EmbodimentError(f"kinematics: the axis of '{self.joint}' must not be zero")


@dataclass(frozen=True, slots=True)
class Kinematics:
    """The joints on the way from the base frame to the end effector.

    Attributes:
        links: In order, from the base.
        tool: The end effector in the frame of the last link, in [m].
    """

    links: tuple[Link, ...]
    tool: Vector

    def __post_init__(self) -> None:
        if not self.links:
            raise EmbodimentError("kinematics: links must have at least one entry")

    def check(self, joints: tuple[str, ...]) -> None:
        """Refuse joints that the embodiment does not have, or that appear twice."""
        names = [link.joint for link in self.links]
        if unknown := [name for name in names if name not in joints]:
            raise EmbodimentError(
                f"kinematics: unknown {listed(unknown)}. Joints: {listed(joints)}"
            )
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise EmbodimentError(f"kinematics: a joint turns one link. Repeated: {listed(twice)}")
