"""recorder_node over real DDS: what was sent is what is in the dataset, live and from a bag."""

import json
import os
import signal
import time

import numpy as np
import pytest
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

pytest.importorskip("lerobot", reason="needs lerobot: pip install 'moxin_vla[data]'")

from moxin_sim import sample_episode
from moxin_vla.core.dataset import Drove
from moxin_vla.core.messages import image_pixels, time_to_ns
from moxin_vla.recording.bag_episodes import convert_bag
from moxin_vla.recording.bags import Bag
from moxin_vla.ros.qos import RECORDING
from moxin_vla.ros.recorded_episodes import RecordedEpisodes
from tests.recording.episodes import loaded, open_store
from tests.ros.bag_recorder import BagRecorder

PNG = {"codec": "png"}


def rows_of(root):
    """Return the rows of a dataset, episode by episode, as plain values."""
    dataset = loaded(root)
    episodes = []
    for entry in dataset.meta.episodes:
        indices = range(entry["dataset_from_index"], entry["dataset_to_index"])
        episodes.append([dataset[i] for i in indices])
    return episodes


def drain(listener, heard):
    """Handle what has come, until nothing new comes for a second."""
    before = -1
    while (now := sum(map(len, heard))) != before:
        before = now
        until_s = time.monotonic() + 1.0
        while time.monotonic() < until_s:
            listener.spin_once()


def test_what_was_sent_is_recorded_and_a_bag_of_it_gives_the_same(
    start_system, embodiment, tmp_path, listener
):
    root, again, bag = tmp_path / "live", tmp_path / "again", tmp_path / "bag"
    specs = [sample_episode("touch", 3), sample_episode("pick", 4)]
    with start_system(
        "scripted:sweep", teleop="autopilot", record=str(root), recorder_parameters=PNG
    ) as running:
        node = running.client.node
        images = {
            camera.name: listener.hear(Image, camera.topic, RECORDING)
            for camera in embodiment.cameras
        }
        commands = listener.hear(JointTrajectory, "/control_node/command", RECORDING)
        with BagRecorder(node, bag, embodiment):
            listener.until(lambda: node.count_subscribers("/joint_states") >= 4, "subscribers")
            done = list(RecordedEpisodes(running.client).play(specs))
            drain(listener, [commands, *images.values()])
    assert [episode.success for episode in done] == [True, True]
    live = rows_of(root)
    steps = [episode.steps for episode in done]
    assert [len(rows) for rows in live] == [episode.rows for episode in done] == steps

    sent = {time_to_ns(m.header.stamp): list(m.points[0].positions) for m in commands}
    pictures = {
        (name, time_to_ns(m.header.stamp)): image_pixels(m)
        for name, messages in images.items()
        for m in messages
    }
    for row in (row for rows in live for row in rows):
        tick_ns = int(row["stamp.tick"])
        assert np.array_equal(row["action"].numpy(), np.float32(sent[tick_ns]))
        for name in embodiment.camera_names:
            stamp_ns = int(row[f"stamp.{name}"])
            assert stamp_ns <= tick_ns
            pixels = np.round(row[f"observation.images.{name}"].numpy() * 255)
            expected = pictures[name, stamp_ns].transpose(2, 0, 1)
            assert np.array_equal(pixels.astype(np.uint8), expected)
    assert {int(row["record.driver"]) for row in live[1]} >= {int(Drove.OPERATOR)}
    assert {row["task"] for row in live[1]} == {specs[1].instruction}
    assert {int(row["record.success"]) for rows in live for row in rows} == {1}

    with Bag(bag, embodiment) as opened, open_store(again, codec="png") as store:
        assert [b.success for b in opened.announced()] == [1, 1]
        written = convert_bag(opened, store, embodiment)
    assert [(w.rows, w.failed) for w in written] == [(len(rows), False) for rows in live]
    for ours, theirs in zip(live, rows_of(again), strict=True):
        for row, same in zip(ours, theirs, strict=True):
            assert row.keys() == same.keys()
            for key, value in row.items():
                assert np.array_equal(np.asarray(value), np.asarray(same[key])), key


def test_an_operator_who_takes_over_is_marked(start_system, tmp_path):
    root = tmp_path / "dataset"
    with start_system(
        "scripted:sweep",
        teleop="autopilot",
        teleop_parameters={"options": "{rule: late, after_s: 0.5}"},
        record=str(root),
    ) as running:
        done = list(RecordedEpisodes(running.client).play([sample_episode("touch", 3)]))
    (rows,) = rows_of(root)
    drivers = [int(row["record.driver"]) for row in rows]
    first = drivers.index(Drove.OPERATOR)
    assert first >= 8 and set(drivers[:first]) <= {Drove.POLICY, Drove.NOBODY}
    assert Drove.POLICY in drivers[:first]
    stepped_in = [bool(row["record.intervention"]) for row in rows]
    assert stepped_in == [driver == Drove.OPERATOR for driver in drivers]
    assert done[0].operator_steps == sum(stepped_in) > 0
    ages = [float(row["record.chunk_age_ms"]) for row in rows]
    assert [age >= 0 for age in ages] == [driver == Drove.POLICY for driver in drivers]


def ask(listener, service):
    return listener.call(Trigger, f"/recorder_node/{service}", Trigger.Request())


def test_in_real_time_signals_keep_the_episode_that_is_running(
    start_system, tmp_path, listener, embodiment
):
    root = tmp_path / "dataset"
    with start_system(
        "scripted:sweep",
        mode="realtime",
        record=str(root),
        recorder_parameters={"instruction": "wave"},
        simulation_parameters={"horizon_steps": 100_000},
    ) as running:
        running.client.begin(sample_episode("touch", 3))
        assert not ask(listener, "stop").success
        assert ask(listener, "start").success
        again = ask(listener, "start")
        assert (again.success, again.message) == (
            False,
            "an episode is being recorded; stop it first",
        )
        time.sleep(2.0)  # of the robot's time
        assert ask(listener, "success").success
        assert "ends with" in ask(listener, "stop").message
        listener.until(lambda: ask(listener, "start").success, "the next episode begins")
        time.sleep(1.5)
        pid = running.system.pid("recorder_node")
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGINT, signal.SIGHUP):
            os.kill(pid, number)  # a launcher's, and an impatient user's
        listener.until(lambda: running.system.ended() == "recorder_node", "it ends")
    dataset = loaded(root)
    lengths = list(dataset.meta.episodes["length"])
    assert len(lengths) == 2 and lengths[0] > 20 and lengths[1] > 10
    entry = json.loads((root / "meta/recording/000001.json").read_text())
    assert entry["ended"] == "the recorder was told to end" and entry["success"] == -1
    for first, last in zip([0, lengths[0]], [lengths[0], sum(lengths)], strict=True):
        ticks = [int(dataset[i]["stamp.tick"]) for i in range(first, last)]
        steps = np.diff(ticks)
        assert np.all(steps > 0) and np.median(steps) == pytest.approx(embodiment.step_ns, rel=0.2)
        for name in embodiment.camera_names:
            stamps = [int(dataset[i][f"stamp.{name}"]) for i in range(first, last)]
            assert all(s <= t for s, t in zip(stamps, ticks, strict=True))
