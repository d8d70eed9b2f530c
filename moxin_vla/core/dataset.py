"""Names of what a dataset of demonstrations holds: agreed between who records and who trains.

lerobot turns every key that starts with `observation` into a policy input and every key that
starts with `action` into a policy output, so labels and privileged facts have neutral prefixes.
"""

from enum import IntEnum
from pathlib import Path

PROPRIO = "observation.state"
ACTION = "action"
EXPERT_CHUNK = "expert.action_chunk"
NAMED_OBJECT = "privileged.named_object"
GOAL = "privileged.goal"
NAMED_OBJECT_PIXELS = "privileged.named_object_pixels"
# What a recording adds, row by row. One row is one control tick.
DRIVER = "record.driver"  # who moved the arm, see `Drove`
REQUESTED = "record.requested"  # what the driver asked for before safety, (D,), in [rad]
INTERVENTION = "record.intervention"  # the operator drives where a policy has driven before
SUCCESS = "record.success"  # of the episode, on each row: 1 yes, 0 no, -1 nobody said
REPEATED = "record.repeated"  # (C,), 1 where a camera's image is that of the row before
CHUNK_AGE_MS = "record.chunk_age_ms"  # of the policy's plan; -1 without one
TICK_STAMP = "stamp.tick"  # [ns], like all stamps
PROPRIO_STAMP = "stamp.proprio"

FINISHED_MARK = "meta/moxin_vla.json"


class Drove(IntEnum):
    """Who moved the arm at a tick."""

    OPERATOR = 0  # or the scripted expert
    POLICY = 1
    NOBODY = 2  # it held


def image_key(camera: str) -> str:
    """Name of a camera's images in a dataset."""
    return f"observation.images.{camera}"


def stamp_key(camera: str) -> str:
    """Name of the capture stamps of a camera's images in a dataset, in [ns]."""
    return f"stamp.{camera}"


def is_finished(root: Path) -> bool:
    """Return whether a dataset was written to its end."""
    return (root / FINISHED_MARK).is_file()
