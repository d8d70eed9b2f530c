"""lerobot's declaration of what a dataset holds, and a recorded row as it wants it."""

from typing import Any

import numpy as np

from moxin_vla.core.dataset import (
    ACTION,
    CHUNK_AGE_MS,
    DRIVER,
    EXPERT_CHUNK,
    GOAL,
    INTERVENTION,
    NAMED_OBJECT,
    NAMED_OBJECT_PIXELS,
    PROPRIO,
    PROPRIO_STAMP,
    REPEATED,
    REQUESTED,
    SUCCESS,
    TICK_STAMP,
    Drove,
    image_key,
    stamp_key,
)
from moxin_vla.core.embodiment import Camera, Embodiment
from moxin_vla.core.errors import RecordingError, listed
from moxin_vla.core.images import resized
from moxin_vla.recording.rows import Row


def demonstration_features(embodiment: Embodiment, horizon: int) -> dict[str, dict]:
    """Return lerobot's feature declaration for demonstrations with expert labels.

    Args:
        embodiment: Gives joint names and camera sizes.
        horizon: Steps H in each labelled chunk.
    """
    images = {image_key(c.name): _image(c, "image") for c in embodiment.cameras}
    cameras = len(embodiment.cameras)
    return images | {
        PROPRIO: _joints(embodiment),
        ACTION: _joints(embodiment),
        EXPERT_CHUNK: {"dtype": "float32", "shape": (horizon, embodiment.dof), "names": None},
        NAMED_OBJECT: {"dtype": "float32", "shape": (3,), "names": ["x", "y", "z"]},
        GOAL: {"dtype": "float32", "shape": (3,), "names": ["x", "y", "z"]},
        NAMED_OBJECT_PIXELS: {"dtype": "float32", "shape": (cameras, 2), "names": None},
        DRIVER: {"dtype": "int64", "shape": (1,), "names": None},
    }


def recording_features(embodiment: Embodiment, images: str) -> dict[str, dict]:
    """Return lerobot's feature declaration for recorded episodes.

    Args:
        embodiment: Gives joint names and camera sizes.
        images: How images are stored: "video" or "image" (PNG, every pixel as it was).
    """
    cameras = embodiment.camera_names
    odd = [c for c in embodiment.cameras if c.width % 2 or c.height % 2]
    if images == "video" and odd:
        sizes = listed(f"{c.name} {c.width}x{c.height}" for c in odd)
        raise RecordingError(f"Video wants even sizes: {sizes}. Change them, or record as png.")
    return {
        **{image_key(c.name): _image(c, images) for c in embodiment.cameras},
        PROPRIO: _joints(embodiment),
        ACTION: _joints(embodiment),
        REQUESTED: _joints(embodiment),
        DRIVER: _number("int64"),
        INTERVENTION: _number("bool"),
        SUCCESS: _number("int64"),
        CHUNK_AGE_MS: _number("float32"),
        REPEATED: {"dtype": "int64", "shape": (len(cameras),), "names": list(cameras)},
        TICK_STAMP: _number("int64"),
        PROPRIO_STAMP: _number("int64"),
        **{stamp_key(name): _number("int64") for name in cameras},
    }


def as_frame(row: Row, embodiment: Embodiment, intervention: bool) -> dict[str, Any]:
    """Return a row as lerobot's writer takes it; images are brought to the embodiment's size."""
    images = {
        image_key(c.name): resized(row.images[c.name], c.height, c.width)
        for c in embodiment.cameras
    }
    return {
        **images,
        PROPRIO: row.proprio.astype(np.float32),
        ACTION: row.command.astype(np.float32),
        REQUESTED: row.requested.astype(np.float32),
        DRIVER: _value(row.driver),
        INTERVENTION: np.array([intervention and row.driver is Drove.OPERATOR]),
        SUCCESS: _value(-1),
        CHUNK_AGE_MS: np.array([row.chunk_age_ms], np.float32),
        REPEATED: np.array(row.repeated, np.int64),
        TICK_STAMP: _value(row.tick_ns),
        PROPRIO_STAMP: _value(row.proprio_ns),
        **{stamp_key(name): _value(time_ns) for name, time_ns in row.image_ns.items()},
        "task": row.instruction,
    }


def _image(camera: Camera, kind: str) -> dict[str, Any]:
    shape = (camera.height, camera.width, 3)
    return {"dtype": kind, "shape": shape, "names": ["height", "width", "channels"]}


def _joints(embodiment: Embodiment) -> dict[str, Any]:
    names = list(embodiment.joint_names)
    return {"dtype": "float32", "shape": (embodiment.dof,), "names": names}


def _number(kind: str) -> dict[str, Any]:
    return {"dtype": kind, "shape": (1,), "names": None}


def _value(number: int) -> Any:
    return np.array([number], np.int64)
