"""lerobot's declaration of what demonstrations with expert labels hold."""

from moxin_vla.core.dataset import (
    ACTION,
    DRIVER,
    EXPERT_CHUNK,
    GOAL,
    NAMED_OBJECT,
    NAMED_OBJECT_PIXELS,
    PROPRIO,
    image_key,
)
from moxin_vla.core.embodiment import Embodiment


def demonstration_features(embodiment: Embodiment, horizon: int) -> dict[str, dict]:
    """Return lerobot's feature declaration for demonstrations with expert labels.

    Args:
        embodiment: Gives joint names and camera sizes.
        horizon: Steps H in each labelled chunk.
    """
    joints = list(embodiment.joint_names)
    images = {
        image_key(camera.name): {
            "dtype": "image",
            "shape": (camera.height, camera.width, 3),
            "names": ["height", "width", "channels"],
        }
        for camera in embodiment.cameras
    }
    cameras = len(embodiment.cameras)
    return images | {
        PROPRIO: {"dtype": "float32", "shape": (embodiment.dof,), "names": joints},
        ACTION: {"dtype": "float32", "shape": (embodiment.dof,), "names": joints},
        EXPERT_CHUNK: {"dtype": "float32", "shape": (horizon, embodiment.dof), "names": None},
        NAMED_OBJECT: {"dtype": "float32", "shape": (3,), "names": ["x", "y", "z"]},
        GOAL: {"dtype": "float32", "shape": (3,), "names": ["x", "y", "z"]},
        NAMED_OBJECT_PIXELS: {"dtype": "float32", "shape": (cameras, 2), "names": None},
        DRIVER: {"dtype": "int64", "shape": (1,), "names": None},
    }
