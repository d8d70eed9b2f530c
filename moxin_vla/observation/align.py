"""Alignment by capture stamp: which images and which joint state belong to one moment.

front   --o-------o-------o-------o--->       one image of every camera within `tolerance_ns`
wrist   ---o-------o-------o---------->
joints  o-o-o-o-o-o-o-o-o-o-o-o-o-o-o->
                          ^ observation time: the oldest image of the newest complete set,
                            with the newest joint state not newer than it
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moxin_vla.core.clock import NS_PER_S
from moxin_vla.core.errors import listed
from moxin_vla.observation.buffer import Stamped, StampedBuffer

type Images = Mapping[str, StampedBuffer[NDArray[np.uint8]]]
type ImageSet = dict[str, Stamped[NDArray[np.uint8]]]


@dataclass(frozen=True, slots=True)
class Aligned:
    """What was captured at one moment.

    Attributes:
        time_ns: Capture time of the oldest image, in [ns].
        images: Camera name -> uint8 RGB (height, width, 3).
        proprio: Joint positions, shape (D,), in [rad], captured at or just before `time_ns`.
    """

    time_ns: int
    images: Mapping[str, NDArray[np.uint8]]
    proprio: NDArray[np.float64]  # (D,)


@dataclass(frozen=True, slots=True)
class Gap:
    """Why there is no observation, in words for an operator."""

    reason: str


def align(
    images: Images,
    joints: StampedBuffer[NDArray[np.float64]],
    tolerance_ns: int,
    proprio_max_age_ns: int,
) -> Aligned | Gap:
    """Find the newest moment that every camera and the joints have seen.

    Args:
        images: One buffer per camera; every one of them must contribute. Without any, each joint
            state is a moment of its own.
        joints: Joint positions, shape (D,), in [rad].
        tolerance_ns: Largest spread of the stamps of one image set, in [ns].
        proprio_max_age_ns: Oldest joint state that fits an image, in [ns].
    """
    found = newest_set(images, tolerance_ns)
    if isinstance(found, Gap):
        return found
    newest = joints.newest()
    if newest is None:
        return Gap("no joint state yet")
    time_ns = min((entry.time_ns for entry in found.values()), default=newest.time_ns)
    proprio = joints.as_of(time_ns)
    if proprio is None:
        newer_s = _s(newest.time_ns - time_ns)
        return Gap(f"no joint state as old as the images: the newest is {newer_s} newer")
    if time_ns - proprio.time_ns > proprio_max_age_ns:
        return Gap(
            f"proprio is stale: {_s(time_ns - proprio.time_ns)} older than the images, "
            f"allowed {_s(proprio_max_age_ns)}"
        )
    return Aligned(time_ns, {name: entry.value for name, entry in found.items()}, proprio.value)


def newest_set(images: Images, tolerance_ns: int) -> ImageSet | Gap:
    """Return the newest image set whose stamps lie within `tolerance_ns`, or what prevents it."""
    newest = {name: buffer.newest() for name, buffer in images.items()}
    if missing := [name for name, entry in newest.items() if entry is None]:
        return Gap(f"no image yet from: {listed(missing)}")
    if not images:
        return {}
    stamps = {name: entry.time_ns for name, entry in newest.items() if entry is not None}
    slowest = min(stamps, key=lambda name: stamps[name])
    for anchor in reversed(list(images[slowest])):
        near = {name: buffer.nearest(anchor.time_ns) for name, buffer in images.items()}
        candidate = {name: entry for name, entry in near.items() if entry is not None}
        times = [entry.time_ns for entry in candidate.values()]
        if max(times) - min(times) <= tolerance_ns:
            return candidate
    lag_ns = max(stamps.values()) - stamps[slowest]
    return Gap(
        f"images do not match: '{slowest}' is {_s(lag_ns)} behind, allowed {_s(tolerance_ns)}"
    )


def _s(duration_ns: int) -> str:
    return f"{duration_ns / NS_PER_S:.3f} s"
