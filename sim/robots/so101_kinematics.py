"""Closed-form inverse kinematics of the SO-101 for a grasp point, an approach pitch and a wrist
roll.

The arm is a pan joint carrying three parallel joints (lift, elbow, wrist flex) and a roll about
the gripper's forward axis: five joints for five task dimensions, so there is one answer (elbow
up), found without iteration. Everything is vectorised.

    plane of the arm:  r outward from the pan axis, z up, in [m]; joint angles pitch the links
        down, in [rad]
    shoulder (R0, Z0) --L1--> elbow --L2--> wrist --FORWARD--> grasp point (offset LATERAL across
    the jaws)
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

PAN_X_M = 0.0388353  # pan axis in the base frame
_R0, _Z0 = 0.0304, 0.1166  # shoulder lift axis in the arm plane
_LINK_1 = np.array([0.028, 0.11257])  # shoulder -> elbow at zero angles (r, z)
_LINK_2 = np.array([0.1349, 0.0052])  # elbow -> wrist at zero angles
_L1, _L2 = np.hypot(*_LINK_1), np.hypot(*_LINK_2)
_ALPHA_1, _ALPHA_2 = np.arctan2(_LINK_1[1], _LINK_1[0]), np.arctan2(_LINK_2[1], _LINK_2[0])
FORWARD_M = 0.0611 + 0.0981  # wrist flex axis -> grasp point, along the gripper
# roll axis -> where a cube waits between the open jaws; they close it towards the fixed one
LATERAL_M = 0.013
_ROLL_ZERO = 0.0487  # roll at which the jaws lie in the arm's plane


def inverse(
    point: ArrayLike, pitch: ArrayLike = np.pi / 2, roll: ArrayLike = 0.0
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Solve for the five arm joints.

    Args:
        point: Grasp points in the base frame, shape (..., 3), in [m].
        pitch: Approach pitch below the horizontal, shape (...), in [rad]; pi/2 points straight
            down.
        roll: Rotation of the jaws about the approach axis, shape (...), in [rad]; 0 closes them
            radially.

    Returns:
        Joint angles of shape (..., 5), in [rad], and a mask of shape (...): False where the point
        is out of reach (the angles then reach towards it as far as they can).
    """
    point = np.asarray(point, float)
    pitch = np.broadcast_to(pitch, point.shape[:-1])
    roll = np.broadcast_to(roll, point.shape[:-1])
    x, y, z = point[..., 0] - PAN_X_M, point[..., 1], point[..., 2]
    across, sideways = LATERAL_M * np.cos(roll), LATERAL_M * np.sin(roll)
    distance = np.hypot(x, y)
    bearing = np.arctan2(y, x) - np.arcsin(np.clip(sideways / np.maximum(distance, 1e-6), -1, 1))
    r = np.sqrt(np.maximum(distance**2 - sideways**2, 0.0))
    wrist_r = r - (FORWARD_M * np.cos(pitch) + across * np.sin(pitch)) - _R0
    wrist_z = z - (-FORWARD_M * np.sin(pitch) + across * np.cos(pitch)) - _Z0
    reach = np.hypot(wrist_r, wrist_z)
    cosine = (reach**2 - _L1**2 - _L2**2) / (2 * _L1 * _L2)
    bend = np.arccos(np.clip(cosine, -1, 1))  # 0 = straight arm
    elevation = np.arctan2(wrist_z, wrist_r)
    elevation_1 = elevation + np.arctan2(_L2 * np.sin(bend), _L1 + _L2 * np.cos(bend))
    elevation_2 = elevation_1 - bend
    lift = _ALPHA_1 - elevation_1
    elbow = _ALPHA_2 - elevation_2 - lift
    wrist = pitch - lift - elbow
    joints = np.stack([-bearing, lift, elbow, wrist, _ROLL_ZERO + roll], axis=-1)
    return joints, np.abs(cosine) <= 1.0


def forward(joints: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the grasp point (..., 3) in [m] and the pitch (...) in [rad] for joint angles (...,
    >=5).
    """
    q = np.asarray(joints, float)
    lift, elbow, wrist = q[..., 1], q[..., 2], q[..., 3]
    roll = q[..., 4] - _ROLL_ZERO
    e1, e2, pitch = _ALPHA_1 - lift, _ALPHA_2 - lift - elbow, lift + elbow + wrist
    across, sideways = LATERAL_M * np.cos(roll), LATERAL_M * np.sin(roll)
    r = (
        _R0
        + _L1 * np.cos(e1)
        + _L2 * np.cos(e2)
        + FORWARD_M * np.cos(pitch)
        + across * np.sin(pitch)
    )
    z = (
        _Z0
        + _L1 * np.sin(e1)
        + _L2 * np.sin(e2)
        - FORWARD_M * np.sin(pitch)
        + across * np.cos(pitch)
    )
    bearing = -q[..., 0]
    x = PAN_X_M + r * np.cos(bearing) - sideways * np.sin(bearing)
    y = r * np.sin(bearing) + sideways * np.cos(bearing)
    return np.stack([x, y, z], axis=-1), pitch
