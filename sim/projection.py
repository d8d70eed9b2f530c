"""Where a point of the scene appears in a camera's image."""

import mujoco
import numpy as np
from numpy.typing import NDArray


def project(
    model: mujoco.MjModel, data: mujoco.MjData, camera: str, point: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Project a world point into a square image.

    Args:
        model: The model.
        data: Its state, with kinematics up to date.
        camera: Name of a fixed camera with a square image.
        point: Point in the world frame, shape (3,), in [m].

    Returns:
        (u, v) in [0, 1] from the left and the top edge, shape (2,); (-1, -1) if the point is
        outside the image.
    """
    index = model.camera(camera).id
    right, up, backward = (
        data.cam_xmat[index].reshape(3, 3).T @ (point - data.cam_xpos[index])
    ).tolist()
    if backward >= -1e-6:
        return np.array([-1.0, -1.0])
    half = np.tan(np.deg2rad(model.cam_fovy[index]) / 2)
    u, v = 0.5 + right / -backward / half / 2, 0.5 - up / -backward / half / 2
    return np.array([u, v]) if 0 <= u < 1 and 0 <= v < 1 else np.array([-1.0, -1.0])
