"""Names and shapes of what is recorded.

lerobot turns every key that starts with `observation` into a policy input and every key that
starts with `action` into a policy output, so labels and privileged facts have neutral prefixes.
"""

from moxin_vla.core.embodiment import Embodiment

PROPRIO = "observation.state"
ACTION = "action"
EXPERT_CHUNK = "expert.action_chunk"
NAMED_OBJECT = "privileged.named_object"
GOAL = "privileged.goal"
NAMED_OBJECT_PIXELS = "privileged.named_object_pixels"
# 0: the expert acted (perhaps disturbed), 1: a policy acted and the expert only labelled
DRIVER = "record.driver"


def image_key(camera: str) -> str:
    """Name of a camera's images in a dataset."""
    return f"observation.images.{camera}"


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
