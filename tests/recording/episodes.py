"""Small episodes whose pictures say which row they belong to."""

from pathlib import Path

import numpy as np

from moxin_vla.core.dataset import Drove
from moxin_vla.core.embodiment import load_embodiment
from moxin_vla.recording.codec import choose_codec
from moxin_vla.recording.features import recording_features
from moxin_vla.recording.recorder import Recorder, Written
from moxin_vla.recording.rows import Row
from moxin_vla.recording.store import DatasetStore

ROBOT = load_embodiment(Path(__file__).parents[2] / "config" / "embodiments" / "so101_sim.yaml")
RATE = int(ROBOT.control_rate_hz)


def brightness(episode, k):
    """Return what a picture shows: codecs keep the brightness of a plain one within a level."""
    return 20 + (7 * episode + 3 * k) % 200


def row(episode, k, driver=Drove.POLICY, instruction="pick up the red cube", size=96):
    pixels = np.full((size, size, 3), brightness(episode, k), np.uint8)
    tick_ns = (1000 * episode + k) * ROBOT.step_ns
    at = np.full(6, episode + k / 1000)
    return Row(
        tick_ns=tick_ns,
        images=dict.fromkeys(ROBOT.camera_names, pixels),
        image_ns=dict.fromkeys(ROBOT.camera_names, tick_ns),
        proprio=at,
        proprio_ns=tick_ns,
        command=at,
        requested=at + 0.5,
        driver=driver,
        chunk_age_ms=50.0 if driver is Drove.POLICY else -1.0,
        instruction=instruction,
        repeated=(False,) * len(ROBOT.camera_names),
    )


def open_store(root, robot=ROBOT, codec="h264"):
    chosen = choose_codec(codec)
    return DatasetStore(
        root,
        recording_features(robot, chosen.kind),
        int(robot.control_rate_hz),
        robot.name,
        {"made": "by a test"},
        chosen,
    )


class Session:
    """A recorder with what it reported."""

    def __init__(self, root, **how):
        store_how = {name: how.pop(name) for name in ("robot", "codec") if name in how}
        self.store = open_store(root, **store_how)
        self.recovered = self.store.recovered
        self.written: list[Written] = []
        self.recorder = Recorder(self.store, ROBOT, self.written.append, **how)

    def record(self, episode, rows=20, success=1, **how):
        self.recorder.begin()
        for k in range(rows):
            self.recorder.add([row(episode, k, **how)])
        self.recorder.finish(success, "asked to", {"streams": {}})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.recorder.close()


def loaded(root):
    """Open a dataset as anybody would."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    return LeRobotDataset("somebody/something", root=root)


def check_alignment(dataset, stride=7, counted=True):
    """Assert that rows, stamps and pictures belong together, over the whole dataset.

    Args:
        dataset: What lerobot loaded.
        stride: Look at every n-th row.
        counted: Whether its `info.json` must count the last episode: its rename is the last.
    """
    lengths = list(dataset.meta.episodes["length"])
    assert dataset.num_frames in {sum(lengths), sum(lengths[: None if counted else -1])}
    for entry in dataset.meta.episodes:
        first, last = entry["dataset_from_index"], entry["dataset_to_index"]
        assert last - first == entry["length"]
        for index in {*range(first, last, stride), last - 1}:
            item, k = dataset[index], index - first
            episode, of_episode = divmod(int(item["stamp.tick"]) // ROBOT.step_ns, 1000)
            assert (int(item["index"]), int(item["frame_index"]), of_episode) == (index, k, k)
            assert int(item["episode_index"]) == entry["episode_index"]
            assert float(item["action"][0]) == np.float32(episode + k / 1000)
            for camera in ROBOT.camera_names:
                seen = float(item[f"observation.images.{camera}"].mean()) * 255
                assert abs(seen - brightness(episode, k)) < 1.5, (index, camera)
