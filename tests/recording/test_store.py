"""What was finished is never lost, and what is on the disk is right."""

import dataclasses
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import time

import numpy as np
import pytest

from moxin_vla.core.dataset import Drove
from moxin_vla.core.errors import RecordingError
from moxin_vla.policy.moxin.training.recorded import Mixture, load_recorded
from moxin_vla.recording import store as store_module
from tests.recording.episodes import (
    ROBOT,
    Session,
    brightness,
    check_alignment,
    loaded,
    open_store,
    row,
)

KILLS = 50 if os.environ.get("MOXIN_VLA_EXAMPLES") else 5
FORK = multiprocessing.get_context("fork")  # lerobot takes seconds to import: once is enough


@pytest.fixture(scope="module", autouse=True)
def imported():
    import lerobot.datasets.lerobot_dataset  # noqa: F401


@pytest.fixture
def root(tmp_path):
    return tmp_path / "dataset"


def entry(root, index):
    return json.loads((root / f"meta/recording/{index:06d}.json").read_text())


def test_episodes_are_read_back_by_lerobot_as_they_were_recorded(root):
    with Session(root) as session:
        session.record(0, rows=20, success=1)
        session.record(1, rows=31, success=0, instruction="touch the blue cube")
        session.record(2, rows=12, success=-1)
    assert [(w.index, w.rows, w.failed) for w in session.written] == [
        (0, 20, False),
        (1, 31, False),
        (2, 12, False),
    ]
    dataset = loaded(root)
    assert (dataset.num_episodes, dataset.num_frames, dataset.fps) == (3, 63, 20)
    check_alignment(dataset, stride=1)
    assert [dataset[i]["task"] for i in (0, 20, 51)] == [
        "pick up the red cube",
        "touch the blue cube",
        "pick up the red cube",
    ]
    assert [int(dataset[i]["record.success"]) for i in (0, 20, 51)] == [1, 0, -1]
    assert dataset.meta.stats["action"]["max"][0] == pytest.approx(2.011, abs=1e-6)
    assert entry(root, 1)["rows"] == 31 and entry(root, 1)["ended"] == "asked to"


def test_png_keeps_every_pixel(root):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (96, 96, 3), dtype=np.uint8)
    with Session(root, codec="png") as session:
        session.recorder.begin()
        for k in range(4):
            images = dict.fromkeys(ROBOT.camera_names, noise)
            session.recorder.add([dataclasses.replace(row(0, k), images=images)])
        session.recorder.finish(1, "asked to", {})
    image = loaded(root)[2]["observation.images.wrist"].numpy()
    assert np.array_equal(np.round(image * 255).astype(np.uint8), noise.transpose(2, 0, 1))


def test_a_dataset_is_extended_and_holds_its_former_episodes(root):
    for episode in range(3):
        with Session(root) as session:
            session.record(episode)
    dataset = loaded(root)
    assert dataset.num_episodes == 3
    check_alignment(dataset)


def test_who_acted_and_where_the_operator_stepped_in_are_marked(root):
    drivers = [Drove.OPERATOR, Drove.POLICY, Drove.NOBODY, Drove.OPERATOR, Drove.POLICY]
    with Session(root) as session:
        session.recorder.begin()
        session.recorder.add([row(0, k, driver) for k, driver in enumerate(drivers)])
        session.recorder.finish(1, "asked to", {})
    dataset = loaded(root)
    assert [int(dataset[i]["record.driver"]) for i in range(5)] == [0, 1, 2, 0, 1]
    stepped_in = [bool(dataset[i]["record.intervention"]) for i in range(5)]
    assert stepped_in == [False, False, False, True, False]


def test_a_discarded_episode_leaves_nothing(root):
    with Session(root) as session:
        session.record(0)
        session.recorder.begin()
        session.recorder.add([row(9, k) for k in range(10)])
        session.recorder.discard("discarded")
        session.record(1)
    assert [w.index for w in session.written] == [0, None, 1]
    dataset = loaded(root)
    assert dataset.num_episodes == 2
    check_alignment(dataset)


def test_an_episode_of_one_row_is_refused_and_the_next_is_fine(root):
    with Session(root) as session:
        session.record(0, rows=1)
        session.record(1)
    assert "an episode needs 2" in session.written[0].why and session.written[0].failed
    check_alignment(loaded(root))


def test_another_robots_dataset_is_refused_and_stays_as_it_is(root):
    with Session(root) as session:
        session.record(0)
    camera = dataclasses.replace(ROBOT.cameras[0], width=64)
    other = dataclasses.replace(ROBOT, cameras=(camera, *ROBOT.cameras[1:]), name="other_arm")
    with pytest.raises(RecordingError) as refusal:
        open_store(root, robot=other)
    assert "robot: found so101_sim, expected other_arm" in str(refusal.value)
    assert "observation.images.front: found video (96, 96, 3)" in str(refusal.value)
    assert loaded(root).num_episodes == 1


def test_a_folder_with_something_else_is_refused(root):
    root.mkdir()
    (root / "thesis.tex").write_text("do not delete")
    with pytest.raises(RecordingError, match="is not empty and not a dataset"):
        open_store(root)
    assert (root / "thesis.tex").exists()


def test_two_recorders_can_not_write_one_dataset(root):
    with open_store(root), pytest.raises(RecordingError, match="Somebody else is recording"):
        open_store(root)
    open_store(root).close()


def test_a_picture_that_the_encoder_lost_fails_the_episode(root, monkeypatch):
    from moxin_vla.recording import staging

    with Session(root) as session:
        session.record(0)
        session.recorder.begin()
        session.recorder.add([row(1, 0)])
        while session.recorder.waiting_bytes:
            time.sleep(0.01)
        monkeypatch.setattr(staging.StagedEpisode, "_wait_for_encoder", lose_a_picture)
        session.recorder.add([row(1, k) for k in range(1, 10)])
        session.recorder.finish(1, "asked to", {})
        while len(session.written) < 2:
            time.sleep(0.01)
        monkeypatch.undo()
        session.record(2)
    assert "Of 10 rows 10 were written, and these pictures" in session.written[1].why
    dataset = loaded(root)
    assert dataset.num_episodes == 2
    check_alignment(dataset)


def lose_a_picture(staged):
    """Take one waiting picture away, as a full queue would."""
    if staged.rows == 5:
        encoder = staged._dataset.writer._streaming_encoder
        key = staged.cameras[0]
        encoder.feed_frame(key, np.zeros((96, 96, 3), np.uint8))


def test_a_dead_encoder_fails_the_episode_in_words_and_the_next_is_fine(root, monkeypatch):
    from lerobot.datasets import video_utils

    with Session(root) as session:
        session.record(0)
        while not session.written:
            time.sleep(0.01)
        monkeypatch.setattr(video_utils.av, "open", broken_encoder)
        session.record(1)
        while len(session.written) < 2:
            time.sleep(0.01)
        monkeypatch.undo()
        session.record(2)
    assert "the device is gone" in session.written[1].why
    dataset = loaded(root)
    assert dataset.num_episodes == 2
    check_alignment(dataset)


def broken_encoder(*args, **kwargs):
    raise OSError("the device is gone")


def test_a_disk_that_is_nearly_full_ends_the_episode_and_keeps_it(root, monkeypatch):
    with Session(root) as session:
        session.recorder.begin()
        session.recorder.add([row(0, k) for k in range(10)])
        usage = shutil.disk_usage(root)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10_000_000))
        session.recorder._looked_s = 0.0
        with pytest.raises(RecordingError, match="The disk is nearly full: 10 MB left"):
            session.recorder.add([row(0, 10)])
        session.recorder.finish(1, "the disk is nearly full", {})
    assert session.written[0].index == 0
    check_alignment(loaded(root))


def test_when_the_disk_takes_nothing_more_the_episode_fails_and_the_others_are_safe(root):
    """Files can't grow beyond some kilobytes in a child: writing fails as on a full disk."""

    def record():
        with Session(root) as session:
            session.record(0)
            while not session.written:
                time.sleep(0.01)
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (3000, resource.RLIM_INFINITY))
            session.record(1, rows=200)
            while len(session.written) < 2:
                time.sleep(0.01)
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
            session.record(2)
        assert [w.failed for w in session.written] == [False, True, False]

    child = FORK.Process(target=record)
    child.start()
    child.join(60)
    assert child.exitcode == 0
    dataset = loaded(root)
    assert dataset.num_episodes == 2
    check_alignment(dataset)


@pytest.mark.parametrize("codec", ["h264", "png"])
def test_a_disk_that_fills_up_costs_the_episodes_that_do_not_fit(small_disk, codec):
    root, rng = small_disk / "dataset", np.random.default_rng(0)
    with Session(root, codec=codec, least_free_bytes=0) as session:
        for episode in range(40):
            if sum(w.failed for w in session.written) == 2:
                break
            session.recorder.begin()
            for k in range(40):
                images = {name: noise(rng) for name in ROBOT.camera_names}
                session.recorder.add([dataclasses.replace(row(episode, k), images=images)])
            session.recorder.finish(1, "asked to", {})
            while len(session.written) <= episode:
                time.sleep(0.01)
    kept_ones = [w for w in session.written if w.index is not None]
    lost = [w for w in session.written if w.failed]
    assert kept_ones and len(lost) == 2 and all("o space left" in w.why for w in lost), (
        session.written
    )
    ready = sum("is safe in" in w.why for w in lost)  # joins as soon as there is room
    dataset = loaded(root)
    assert dataset.num_episodes in range(len(kept_ones), len(kept_ones) + ready + 1)
    assert {int(dataset[i]["record.success"]) for i in range(len(dataset))} == {1}


def noise(rng):
    return rng.integers(0, 256, (96, 96, 3), dtype=np.uint8)


def test_writing_that_can_not_keep_up_says_so_and_keeps_what_it_has(root):
    with Session(root, most_waiting_bytes=200_000) as session:
        session.recorder.begin()
        added = 0
        with pytest.raises(RecordingError, match="Writing can't keep up"):
            for k in range(500):
                added += 1
                session.recorder.add([row(0, k)])
        session.recorder.finish(-1, "too slow", {})
    assert session.written[0].rows == added
    check_alignment(loaded(root))


@pytest.mark.parametrize("renames", range(8))
def test_a_crash_between_any_two_renames_loses_nothing(root, monkeypatch, renames):
    with Session(root) as session:
        session.record(0)
    done = []
    real = store_module.put

    def put(source, target):
        if len(done) == renames:
            raise OSError("the power is gone")
        done.append(target)
        real(source, target)

    monkeypatch.setattr(store_module, "put", put)
    with Session(root) as session:
        session.record(1, rows=13, instruction="another thing to do")
    monkeypatch.undo()
    check_alignment(loaded(root), counted=False)  # as anybody finds it
    assert "is safe in" in session.written[0].why
    with Session(root) as session:
        assert "episode 1 was complete and is kept" in session.recovered
        session.record(2)
    dataset = loaded(root)
    assert dataset.num_episodes == 3
    check_alignment(dataset)


def test_killed_at_any_moment_no_finished_episode_is_lost(root, tmp_path):
    """SIGKILL at random moments of a session that records without a pause."""
    saved = tmp_path / "saved"
    saved.touch()
    moments = random.Random(7)
    episode = FORK.Value("i", 0)

    def record():
        with Session(root) as session:
            while True:
                session.record(episode.value, rows=moments.randrange(2, 40))
                done = len(session.written) + 1
                while len(session.written) < done:
                    time.sleep(0.001)
                assert not session.written[-1].failed
                with saved.open("a") as file:
                    file.write(f"{episode.value}\n")
                episode.value += 1

    for _ in range(KILLS):
        child = FORK.Process(target=record)
        child.start()
        time.sleep(moments.uniform(0.1, 1.5))
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        episode.value += 1
        promised = [int(line) for line in saved.read_text().split()]
        if not promised:
            continue
        dataset = loaded(root)
        check_alignment(dataset, stride=11, counted=False)
        found = {int(e) for e in kept(dataset)}
        assert set(promised) <= found
        start_training(root, tmp_path)
    with Session(root) as session:
        session.record(episode.value)
    assert len(promised) >= 2
    check_alignment(loaded(root), stride=11)


def start_training(root, tmp_path):
    """Draw a batch as `moxin-vla train` does, and see that rows and pictures belong together."""
    data = load_recorded(root, ROBOT, 8, tmp_path / "cache")
    samples = Mixture([data], None, 0).draw(8)
    for picture, chunk in zip(samples.images, samples.chunks, strict=True):
        episode, k = divmod(round(float(chunk[0, 0]) * 1000), 1000)
        assert abs(float(picture.mean()) - brightness(episode, k)) < 1.5


def kept(dataset):
    """Return which episodes a dataset holds, by their stamps."""
    for entry in dataset.meta.episodes:
        tick = int(dataset.hf_dataset[entry["dataset_from_index"]]["stamp.tick"])
        yield tick // ROBOT.step_ns // 1000
