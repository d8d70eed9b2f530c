"""Is it a dataset of this robot?"""

from collections.abc import Iterator

import numpy as np

from moxin_vla.core import dataset as keys
from moxin_vla.core.embodiment import Embodiment
from moxin_vla.core.errors import listed
from moxin_vla.recording.quality.expected import Expected
from moxin_vla.recording.quality.findings import Finding, Severity
from moxin_vla.recording.stored import StoredDataset

# How far outside the position limits: targets by rounding, arms by giving way under load.
_BEYOND_RAD = {keys.ACTION: 0.05, keys.PROPRIO: 0.5}
_TURN = 2 * np.pi
_FIT = "Name the embodiment it was recorded with, or convert the dataset."


def find(dataset: StoredDataset, expected: Expected) -> Iterator[Finding]:
    """Compare joints, rate, cameras and ranges with the embodiment, if one is given."""
    robot = expected.embodiment
    if robot is None:
        return
    for column, found, wanted in _facts(dataset, robot):
        if found != wanted:
            yield Finding(
                Severity.ERROR, f"is {found}; '{robot.name}' has {wanted}", _FIT, column=column
            )
    yield from _cameras(dataset, robot)
    for key in (keys.PROPRIO, keys.ACTION):
        yield from _ranges(dataset, robot, key)


def _facts(dataset: StoredDataset, robot: Embodiment) -> Iterator[tuple[str, str, str]]:
    yield "fps", f"{dataset.fps:g}", f"{robot.control_rate_hz:g}"
    for key in (keys.PROPRIO, keys.ACTION):
        if key in dataset.features:
            yield key, listed(dataset.labels(key)), listed(robot.joint_names)


def _cameras(dataset: StoredDataset, robot: Embodiment) -> Iterator[Finding]:
    names = [key.removeprefix(keys.image_key("")) for key in dataset.image_keys]
    for camera in robot.cameras:
        key = keys.image_key(camera.name)
        if camera.name not in names:
            yield Finding(
                Severity.ERROR, f"is missing; the dataset has: {listed(names)}", _FIT, column=key
            )
            continue
        found = tuple(dataset.features[key]["shape"])
        sizes = {(camera.height, camera.width, 3), (3, camera.height, camera.width)}
        if found not in sizes:
            yield Finding(
                Severity.WARNING,
                f"is {found}; '{robot.name}' gives {(camera.height, camera.width, 3)}",
                "Images are resized in training; the robot's must come from the same picture.",
                column=key,
            )


def _ranges(dataset: StoredDataset, robot: Embodiment, key: str) -> Iterator[Finding]:
    if dataset.labels(key) != robot.joint_names if key in dataset.features else True:
        return
    for episode in dataset.episodes:
        values = episode.vector(key)
        if values is None or not len(values):
            continue
        low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
        outside = np.maximum(robot.position_lower - low, high - robot.position_upper)
        for joint in np.flatnonzero(outside > _BEYOND_RAD[key]):
            degrees = max(-low[joint], high[joint]) > _TURN
            yield Finding(
                Severity.ERROR,
                f"is from {low[joint]:.2f} to {high[joint]:.2f}; the joint's limits are "
                f"{robot.position_lower[joint]:.2f} to {robot.position_upper[joint]:.2f} rad",
                "These look like degrees: convert them to radians." if degrees else _FIT,
                episode.index,
                f"{key}.{robot.joint_names[joint]}",
            )
