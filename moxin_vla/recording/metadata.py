"""What a dataset says about how it was made."""

import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from moxin_vla.core.embodiment import Embodiment
from moxin_vla.core.errors import RecordingError
from moxin_vla.recording.codec import Codec

_PACKAGES = ("moxin_vla", "lerobot", "torch", "numpy", "av", "mujoco", "ros-rclpy")


def dataset_metadata(embodiment: Embodiment, file: Path, codec: Codec) -> dict[str, Any]:
    """Return what goes into `meta/moxin_vla.json` of a recorded dataset."""
    return {
        "schema": 1,
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "embodiment": {
            "name": embodiment.name,
            "content": yaml.safe_load(file.read_text(encoding="utf-8")),
        },
        "images": {"codec": codec.name, "why": codec.why},
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Return the versions of what writes a dataset."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = ""
    return found


def rows_per_second(embodiment: Embodiment) -> int:
    """Return the rate of rows.

    Raises:
        RecordingError: The control rate is no whole number, as LeRobotDataset wants it.
    """
    rate = embodiment.control_rate_hz
    if rate != int(rate):
        raise RecordingError(
            f"LeRobotDataset wants a whole number of rows per second; control_rate_hz is {rate:g}."
        )
    return int(rate)
