"""Forward kinematics of the embodiment's chain, for many poses at once."""

import numpy as np
from numpy.typing import NDArray

from moxin_vla.core.embodiment import Embodiment
from moxin_vla.core.kinematics import Kinematics, Link

type Array = NDArray[np.float64]


class ForwardKinematics:
    """Joint positions to the end effector's position, by Rodrigues' formula from the tool back.

    Args:
        kinematics: The chain.
        joints: Joint names in embodiment order, length D.
    """

    def __init__(self, kinematics: Kinematics, joints: tuple[str, ...]) -> None:
        self._tool = np.array(kinematics.tool)
        self._links = [
            (joints.index(link.joint), np.array(link.xyz), _turns(link))
            for link in reversed(kinematics.links)
        ]

    def __call__(self, positions: Array) -> Array:
        """Return where the end effector is, (..., 3) in [m], for joints (..., D) in [rad]."""
        cos, sin = np.cos(positions), np.sin(positions)  # (..., D)
        point = np.broadcast_to(self._tool, (*positions.shape[:-1], 3))
        for joint, origin, turns in self._links:
            parts = point @ turns  # (..., 9)
            turned = (
                cos[..., joint, None] * parts[..., 3:6] + sin[..., joint, None] * parts[..., 6:]
            )
            point = origin + parts[..., :3] + turned
        return point


def forward_kinematics(embodiment: Embodiment) -> ForwardKinematics | None:
    """Return the embodiment's forward kinematics; None if it declares no chain."""
    if embodiment.kinematics is None:
        return None
    return ForwardKinematics(embodiment.kinematics, embodiment.joint_names)


def _turns(link: Link) -> Array:
    """Return what a link's rotation is made of, (3, 9): p R(q) = constant + cos q + sin q part."""
    axis = np.array(link.axis) / np.linalg.norm(link.axis)
    along, cross = np.outer(axis, axis), np.cross(np.eye(3), axis)
    fixed = _rotation(*link.rpy)
    return np.hstack([(fixed @ part).T for part in (along, np.eye(3) - along, cross)])


def _rotation(roll: float, pitch: float, yaw: float) -> Array:
    """Return the rotation matrix Rz(yaw) Ry(pitch) Rx(roll), as URDF defines it."""
    (cr, cp, cy), (sr, sp, sy) = np.cos([roll, pitch, yaw]), np.sin([roll, pitch, yaw])
    about_x = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    about_y = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    about_z = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x
