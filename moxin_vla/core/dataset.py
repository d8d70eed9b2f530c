"""Names of what a dataset of demonstrations holds: agreed between who records and who trains.

lerobot turns every key that starts with `observation` into a policy input and every key that
starts with `action` into a policy output, so labels and privileged facts have neutral prefixes.
"""

from pathlib import Path

PROPRIO = "observation.state"
ACTION = "action"
EXPERT_CHUNK = "expert.action_chunk"
NAMED_OBJECT = "privileged.named_object"
GOAL = "privileged.goal"
NAMED_OBJECT_PIXELS = "privileged.named_object_pixels"
# 0: the expert acted (perhaps disturbed), 1: a policy acted and the expert only labelled
DRIVER = "record.driver"

FINISHED_MARK = "moxin_vla.json"


def image_key(camera: str) -> str:
    """Name of a camera's images in a dataset."""
    return f"observation.images.{camera}"


def is_finished(root: Path) -> bool:
    """Return whether a dataset was written to its end."""
    return (root / FINISHED_MARK).is_file()
