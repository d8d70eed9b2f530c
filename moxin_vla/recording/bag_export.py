"""A dataset becomes a bag: the messages that its rows were made of, with their stamps.

Converted back, a recorded dataset comes out as it was, save for what a video codec did to pixels.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moxin_vla.core.clock import NS_PER_S
from moxin_vla.core.dataset import (
    ACTION,
    CHUNK_AGE_MS,
    DRIVER,
    PROPRIO,
    PROPRIO_STAMP,
    REQUESTED,
    SUCCESS,
    TICK_STAMP,
    Drove,
    image_key,
    stamp_key,
)
from moxin_vla.core.embodiment import Embodiment
from moxin_vla.core.errors import DependencyError, RecordingError, listed
from moxin_vla.recording import intake
from moxin_vla.recording.bag_writer import BagWriter
from moxin_vla.recording.intake import absolute

_DRIVERS = {Drove.OPERATOR: "operator", Drove.POLICY: "policy", Drove.NOBODY: ""}
_BETWEEN_NS = 3 * NS_PER_S  # of the bag's clock, between episodes


def export_bag(
    root: Path,
    target: Path,
    embodiment: Embodiment,
    progress: Callable[[int, int], None] = lambda row, rows: None,
) -> int:
    """Write all episodes of a dataset into a new bag.

    Args:
        root: A LeRobotDataset v3 of this robot. Without stamps of its own (not recorded by
            recorder_node), rows get those of an even clock.
        target: A folder that is not there yet; rosbag2 with MCAP storage.
        embodiment: Gives names and topics.
        progress: Called with the rows written and all rows.

    Returns:
        How many messages were written.

    Raises:
        RecordingError: The dataset can't be read or is of another robot; the target exists.
        DependencyError: rosbags or lerobot is not installed.
    """
    try:
        from lerobot.datasets.lerobot_dataset import LeRobotDataset
        from rosbags.rosbag2 import StoragePlugin, Writer
    except ImportError as error:
        raise DependencyError(
            "Bags need rosbags and lerobot. Install them with: pip install 'moxin_vla[data]'"
        ) from error
    if target.exists():
        raise RecordingError(f"'{target}' exists already. Name a new folder for the bag.")
    if not (root / "meta" / "info.json").is_file():
        raise RecordingError(f"'{root}' is not a LeRobotDataset: it has no meta/info.json.")
    dataset = LeRobotDataset(root.name, root=root, return_uint8=True, video_backend="pyav")
    _check(dataset, embodiment, root)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".bag_") as beside:
        part = Path(beside) / target.name  # the file in it gets its name
        with Writer(part, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
            count = _Export(dataset, embodiment, BagWriter(writer, embodiment)).run(progress)
        part.replace(target)
    return count


def _check(dataset: Any, embodiment: Embodiment, root: Path) -> None:
    needed = [PROPRIO, ACTION, *(image_key(name) for name in embodiment.camera_names)]
    found = dataset.features
    missing = [key for key in needed if key not in found]
    sizes = {key: tuple(found[key]["shape"]) for key in (PROPRIO, ACTION) if key in found}
    wrong = [f"{key} {size}" for key, size in sizes.items() if size != (embodiment.dof,)]
    if missing or wrong:
        raise RecordingError(
            f"The dataset '{root}' is not of the robot '{embodiment.name}'.\n"
            f"  missing: {listed(missing)}\n"
            f"  wrong in size: {listed(wrong)}; expected ({embodiment.dof},)"
        )


def _pixels(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Return an image (3, h, w) as lerobot gives it, PNGs in [0, 1], as uint8 (h, w, 3)."""
    if image.dtype != np.uint8:
        image = np.round(image * 255).astype(np.uint8)
    return image.transpose(1, 2, 0)


class _Export:
    """Goes through the rows of a dataset."""

    def __init__(self, dataset: Any, embodiment: Embodiment, out: BagWriter) -> None:
        self._dataset, self._embodiment, self._out = dataset, embodiment, out
        self._stamped = TICK_STAMP in dataset.features
        self._shift_ns = 0  # from stamps to the bag's clock: stamps may begin anew each session
        self._last_ns = 0

    def run(self, progress: Callable[[int, int], None]) -> int:
        """Write everything; return how many messages there are."""
        rows = self._dataset.num_frames
        for entry in self._dataset.meta.episodes:
            first, end = entry["dataset_from_index"], entry["dataset_to_index"]
            self._episode(range(first, end), lambda index: progress(index + 1, rows))
        return self._out.count

    def _episode(self, indices: range, progress: Callable[[int], None]) -> None:
        shown: dict[str, int] = {}
        instruction, tick_ns = "", 0
        for index in indices:
            item = self._dataset[index]
            tick_ns = self._stamp(item, TICK_STAMP)
            if index == indices[0]:
                self._shift_ns = self._last_ns + _BETWEEN_NS - tick_ns
                self._put(intake.EPISODE, tick_ns - 2, {"event": "begin", "after_ns": tick_ns - 1})
            if item["task"] != instruction:
                instruction = item["task"]
                self._put(intake.INSTRUCTION, tick_ns - 1, instruction)
            self._sensors(item, shown)
            self._asked(item, tick_ns)
            progress(index)
        success = int(item[SUCCESS]) if SUCCESS in item else -1
        end = {"event": "end", "up_to_ns": tick_ns, "success": success, "why": "end of episode"}
        self._put(intake.EPISODE, tick_ns + 1, end)

    def _stamp(self, item: dict[str, Any], key: str) -> int:
        if self._stamped:
            return int(item[key])
        return round(int(item["frame_index"]) / self._dataset.fps * NS_PER_S)

    def _sensors(self, item: dict[str, Any], shown: dict[str, int]) -> None:
        """Write what this row shows and no row before has shown."""
        for camera in self._embodiment.cameras:
            time_ns = self._stamp(item, stamp_key(camera.name))
            if shown.get(camera.name) != time_ns:
                shown[camera.name] = time_ns
                pixels = _pixels(item[image_key(camera.name)].numpy())
                self._put(absolute(camera.topic), time_ns, pixels)
        topic, time_ns = self._embodiment.joint_states_topic, self._stamp(item, PROPRIO_STAMP)
        if shown.get(topic) != time_ns:
            shown[topic] = time_ns
            self._put(absolute(topic), time_ns, item[PROPRIO].numpy().astype(np.float64))

    def _asked(self, item: dict[str, Any], tick_ns: int) -> None:
        command = item[ACTION].numpy().astype(np.float64)
        if REQUESTED in item:
            driver = Drove(int(item[DRIVER]))
            age_ns = round(max(0.0, float(item[CHUNK_AGE_MS])) * 1e6)
            asked = item[REQUESTED].numpy().astype(np.float64)
            self._put(intake.ACTION, tick_ns, (_DRIVERS[driver], asked, age_ns))
        self._put(intake.COMMAND, tick_ns, ("", command, 0))

    def _put(self, topic: str, time_ns: int, content: Any) -> None:
        at_ns = time_ns + self._shift_ns
        self._last_ns = max(self._last_ns, at_ns)
        self._out.put(topic, at_ns, time_ns, content)
