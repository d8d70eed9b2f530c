"""Bags and datasets, back and forth, without ROS."""

import dataclasses
from collections import Counter

import numpy as np
import pytest

from moxin_vla.cli.main import main
from moxin_vla.core.dataset import Drove
from moxin_vla.core.errors import RecordingError
from moxin_vla.recording.bag_episodes import convert_bag
from moxin_vla.recording.bag_export import export_bag
from moxin_vla.recording.bag_writer import BagWriter
from moxin_vla.recording.bags import Bag
from tests.recording.episodes import ROBOT, Session, loaded, open_store, row
from tests.recording.messages import NS, STEP

pytest.importorskip("rosbags", reason="needs rosbags: pip install 'moxin_vla[data]'")

CAMERAS = {camera.name: camera.topic for camera in ROBOT.cameras}


def write_bag(folder, ticks, instructions=(), announced=(), measured=0.001, storage="MCAP"):
    """Write a bag: all that `ticks` bring, as (tick, bag's clock in [ns])."""
    from rosbags.rosbag2 import StoragePlugin, Writer

    with Writer(folder, version=9, storage_plugin=StoragePlugin[storage]) as writer:
        out = BagWriter(writer, ROBOT)
        for at_ns, text in instructions:
            out.put("/policy_node/instruction", at_ns, 0, text)
        for at_ns, event in announced:
            out.put("/recorder_node/episode", at_ns, 0, event)
        for k, at_ns in ticks:
            time_ns = k * STEP
            for topic in CAMERAS.values():
                out.put(topic, at_ns, time_ns, np.full((96, 96, 3), k % 200, np.uint8))
            out.put(ROBOT.joint_states_topic, at_ns, time_ns, np.full(6, k * measured))
            out.put("/control_node/action", at_ns, time_ns, ("policy", np.full(6, 0.3), 0))
            out.put("/control_node/command", at_ns, time_ns, ("", np.full(6, 0.2), 0))


def converted(folder, root, instruction=""):
    with Bag(folder, ROBOT) as bag, open_store(root, codec="png") as store:
        return convert_bag(bag, store, ROBOT, instruction, "a test")


def ticks_of(root):
    dataset = loaded(root)
    return [
        [int(dataset[i]["stamp.tick"]) // STEP for i in range(*bounds)]
        for bounds in zip(
            dataset.meta.episodes["dataset_from_index"],
            dataset.meta.episodes["dataset_to_index"],
            strict=True,
        )
    ]


def even(ticks, start_ns=NS):
    return [(k, start_ns + k * STEP) for k in ticks]


def announced(first, last, success, why, start_ns=NS):
    """Return what recorder_node says of an episode from tick `first` to `last`."""
    begin = {"event": "begin", "after_ns": (first - 1) * STEP}
    end = {"event": "end", "up_to_ns": last * STEP, "success": success, "why": why}
    return [(start_ns + first * STEP - 1, begin), (start_ns + last * STEP + 1, end)]


def assert_same(root, other):
    one, two = loaded(root), loaded(other)
    assert len(one) == len(two)
    for i in range(len(one)):
        for key, value in one[i].items():
            assert np.array_equal(np.asarray(value), np.asarray(two[i][key])), (i, key)


def test_a_dataset_survives_the_way_into_a_bag_and_back(tmp_path):
    with Session(tmp_path / "one", codec="png") as session:
        session.record(0, rows=12, success=1, driver=Drove.OPERATOR)
        session.record(1, rows=9, success=0, instruction="touch the blue cube")
    with Session(tmp_path / "one", codec="png") as session:
        session.record(0, rows=7, success=-1)  # its clock begins anew
    count = export_bag(tmp_path / "one", tmp_path / "bag", ROBOT)
    assert count == 28 * 5 + 3 * 3  # per row two images, joints, action, command
    written = converted(tmp_path / "bag", tmp_path / "two")
    assert [(w.rows, w.failed) for w in written] == [(12, False), (9, False), (7, False)]
    assert_same(tmp_path / "one", tmp_path / "two")


def test_sessions_whose_clocks_begin_anew_show_no_image_of_another_on_the_way_back(tmp_path):
    for pictures in (0, 5):  # the same ticks, fewer than a second of them
        with Session(tmp_path / "one", codec="png") as session:
            session.recorder.begin()
            for k in range(15):
                seen = row(pictures, k).images
                session.recorder.add([dataclasses.replace(row(0, k), images=seen)])
            session.recorder.finish(1, "asked to", {})
    export_bag(tmp_path / "one", tmp_path / "bag", ROBOT)
    written = converted(tmp_path / "bag", tmp_path / "two")
    assert [(w.rows, w.failed) for w in written] == [(15, False), (15, False)]
    assert_same(tmp_path / "one", tmp_path / "two")


def test_announced_episodes_are_found_though_the_clock_began_anew_between_them(tmp_path):
    later = 10 * NS
    write_bag(
        tmp_path / "bag",
        even(range(90, 150)) + even(range(60), later),
        [(1, "wave")],
        announced(100, 110, 1, "asked to") + announced(6, 20, 0, "too late", later),
    )
    written = converted(tmp_path / "bag", tmp_path / "data")
    assert [w.why for w in written] == ["asked to", "too late"]
    assert ticks_of(tmp_path / "data") == [[*range(100, 111)], [*range(6, 21)]]
    dataset = loaded(tmp_path / "data")
    assert {int(r["stamp.tick"] - r["stamp.front"]) for r in dataset} == {0}
    assert [int(dataset[i]["record.success"]) for i in (0, 11)] == [1, 0]


def test_an_announced_episode_without_rows_is_told_of_with_its_reason(tmp_path, capsys):
    bounds = announced(0, 9, 1, "asked to") + announced(12, 19, 1, "asked to")
    write_bag(tmp_path / "bag", even(range(20)), [(1, "wave")], bounds, measured=np.nan)
    written = converted(tmp_path / "bag", tmp_path / "data")
    why = "/joint_states: Joint state is not finite for: "
    assert [(w.index, w.rows, w.failed) for w in written] == [(None, 0, True)] * 2
    assert all(w.why.startswith(why) for w in written)
    words = [str(tmp_path / name) for name in ("bag", "data")]
    assert main(["convert", *words, "--codec", "png"]) == 2
    said = capsys.readouterr()
    assert f"  not kept: 0 rows; {why}" in said.out
    assert "could be converted" in said.err


def test_announced_episodes_that_nothing_was_commanded_in_are_told_of(tmp_path):
    bounds = announced(0, 9, 1, "asked to") + announced(30, 40, 0, "asked to stop")
    write_bag(tmp_path / "bag", even(range(20)), [(1, "wave")], bounds)
    written = converted(tmp_path / "bag", tmp_path / "data")
    assert [(w.index, w.rows, w.why) for w in written] == [
        (0, 10, "asked to"),
        (None, 0, "asked to stop"),
    ]


def test_without_announcements_a_pause_begins_an_episode(tmp_path):
    late = even(range(10, 25), start_ns=4 * NS)
    write_bag(tmp_path / "bag", even(range(10)) + late)
    written = converted(tmp_path / "bag", tmp_path / "data", "wave")
    assert [w.why for w in written] == ["the commands paused", "the bag ends"]
    assert ticks_of(tmp_path / "data") == [[*range(10)], [*range(10, 25)]]


def test_without_announcements_another_instruction_begins_an_episode(tmp_path):
    told = [(0, "touch the red cube"), (NS + 9 * STEP + 1, "touch the blue cube")]
    write_bag(tmp_path / "bag", even(range(20)), told)
    written = converted(tmp_path / "bag", tmp_path / "data")
    assert [w.why for w in written] == ["the instruction changed", "the bag ends"]
    dataset = loaded(tmp_path / "data")
    assert {dataset[9]["task"], dataset[10]["task"]} == {t for _, t in told}


def test_sqlite_bags_are_read_too(tmp_path):
    write_bag(tmp_path / "bag", even(range(10)), storage="SQLITE3")
    assert converted(tmp_path / "bag", tmp_path / "data", "wave")[0].rows == 10


def test_a_bag_that_lacks_what_rows_are_made_of_is_refused_with_what_is_there(tmp_path):
    from rosbags.rosbag2 import StoragePlugin, Writer

    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        from rosbags.typesys import Stores, get_typestore

        store = get_typestore(Stores.ROS2_KILTED)
        writer.add_connection("/joint_states", "sensor_msgs/msg/JointState", typestore=store)
        other = writer.add_connection("/rosout", "std_msgs/msg/String", typestore=store)
        text = store.types["std_msgs/msg/String"](data="hello")
        writer.write(other, 1, store.serialize_cdr(text, "std_msgs/msg/String"))
    with pytest.raises(RecordingError) as refusal:
        Bag(tmp_path / "bag", ROBOT)
    assert "missing: /camera/front/image_raw, /camera/wrist/image_raw" in str(refusal.value)
    assert "/rosout" in str(refusal.value)


def write_foreign(folder, step_ns, stamped=True):
    """Write a bag of a robot that follows a leader arm: joint states of both, no control_node."""
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.typesys import Stores, get_typestore

    store, kind = get_typestore(Stores.ROS2_KILTED), "sensor_msgs/msg/JointState"
    make, nothing = store.types, np.array([], np.float64)
    with Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        out = BagWriter(writer, ROBOT)
        leader = writer.add_connection("/leader/joint_states", kind, typestore=store)
        for k in range(12):
            at_ns = NS + k * step_ns
            for topic in CAMERAS.values():
                out.put(topic, at_ns, at_ns, np.full((96, 96, 3), k, np.uint8))
            out.put(ROBOT.joint_states_topic, at_ns, at_ns, np.full(6, k / 1000))
            stamp = make["builtin_interfaces/msg/Time"](
                *(divmod(at_ns, NS) if stamped else (0, 0))
            )
            header = make["std_msgs/msg/Header"](stamp=stamp, frame_id="")
            names, at = list(ROBOT.joint_names), np.full(6, k / 100)
            message = make[kind](header, names, at, nothing, nothing)
            writer.write(leader, at_ns + 1, store.serialize_cdr(message, kind))


@pytest.mark.parametrize("stamped", [True, False])
def test_a_leaders_joint_states_are_commands(tmp_path, stamped):
    write_foreign(tmp_path / "bag", STEP, stamped)
    with (
        Bag(tmp_path / "bag", ROBOT, "/leader/joint_states") as bag,
        open_store(tmp_path / "data", codec="png") as store,
    ):
        (written,) = convert_bag(bag, store, ROBOT, "wave")
    assert (written.rows, written.failed) == (12, False)
    dataset = loaded(tmp_path / "data")
    assert [round(float(row["action"][0]), 6) for row in dataset] == [k / 100 for k in range(12)]
    assert {int(row["record.driver"]) for row in dataset} == {int(Drove.NOBODY)}
    assert {int(row["stamp.tick"] - row["stamp.front"]) for row in dataset} == {int(not stamped)}


def test_commands_at_another_rate_than_the_robots_are_refused(tmp_path):
    write_foreign(tmp_path / "bag", STEP // 2)
    with (
        Bag(tmp_path / "bag", ROBOT, "/leader/joint_states") as bag,
        open_store(tmp_path / "data", codec="png") as store,
    ):
        (written,) = convert_bag(bag, store, ROBOT, "wave")
        assert store.episodes == 0
    assert "Commands come at 40.0 Hz, 'so101_sim' says 20 Hz" in written.why


def test_commands_without_names_are_refused(tmp_path):
    write_bag(tmp_path / "bag", even(range(10)), [(0, "wave")])
    with pytest.raises(RecordingError, match="'/policy_node/instruction' is a std_msgs/msg/Str"):
        Bag(tmp_path / "bag", ROBOT, "/policy_node/instruction")


def test_a_file_that_is_no_bag_is_refused(tmp_path):
    (tmp_path / "bag.mcap").write_bytes(b"not a bag")
    with pytest.raises(RecordingError, match="can't be read as a bag"):
        Bag(tmp_path / "bag.mcap", ROBOT)


def read(path):
    with Bag(path, ROBOT) as bag:
        return bag.announced() + list(bag.messages(["/control_node/command"]))


def test_a_damaged_file_is_read_or_refused_in_words(tmp_path):
    write_bag(tmp_path / "bag", even(range(8)), [(1, "wave")])
    whole = next((tmp_path / "bag").glob("*.mcap")).read_bytes()
    damaged = tmp_path / "damaged.mcap"
    said = Counter()
    # the last messages and the index; before are pixels, of which any are right
    for at in range(len(whole) - 7000, len(whole), 48):
        damaged.write_bytes(whole[:at] + b"\xff" * 16 + whole[at + 16 :])
        try:
            read(damaged)
        except RecordingError as error:
            said["is damaged" if "is damaged: " in str(error) else "can't be read"] += 1
    assert said["is damaged"] > 3 and said["can't be read"] > 3


def test_a_file_that_was_cut_off_is_refused(tmp_path):
    write_bag(tmp_path / "bag", even(range(8)), [(1, "wave")])
    whole = next((tmp_path / "bag").glob("*.mcap")).read_bytes()
    (tmp_path / "cut.mcap").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RecordingError, match=r"cut.mcap' can't be read as a bag: "):
        read(tmp_path / "cut.mcap")


def test_a_bag_whose_recorder_was_killed_is_told_how_to_mend(tmp_path, capsys):
    write_bag(tmp_path / "bag", even(range(10)), [(1, "wave")])
    (tmp_path / "bag" / "metadata.yaml").unlink()
    assert main(["convert", str(tmp_path / "bag"), str(tmp_path / "data")]) == 2
    assert (
        f"'{tmp_path / 'bag'}' holds a bag without metadata.yaml: its recording was cut off. "
        "Mend it first with: ros2 bag reindex"
    ) in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_a_bag_goes_into_folders_that_are_not_there_yet(tmp_path):
    with Session(tmp_path / "data", codec="png") as session:
        session.record(0, rows=3)
    target = tmp_path / "new" / "folder" / "bag"
    assert main(["convert", str(tmp_path / "data"), str(target)]) == 0
    assert [path.name for path in target.parent.iterdir()] == ["bag"]
    assert converted(target, tmp_path / "back")[0].rows == 3


def test_a_bag_without_a_word_on_what_to_do_asks_for_it(tmp_path):
    write_bag(tmp_path / "bag", even(range(10)))
    with pytest.raises(RecordingError, match="say it with --instruction"):
        converted(tmp_path / "bag", tmp_path / "data")


def test_a_camera_that_stops_in_a_bag_ends_the_episode_there(tmp_path):
    from rosbags.rosbag2 import StoragePlugin, Writer

    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        out = BagWriter(writer, ROBOT)
        for k in range(60):
            for name, topic in CAMERAS.items():
                if name == "front" or k < 10:
                    out.put(topic, k * STEP, k * STEP, np.full((96, 96, 3), k, np.uint8))
            out.put(ROBOT.joint_states_topic, k * STEP, k * STEP, np.zeros(6))
            out.put("/control_node/command", k * STEP, k * STEP, ("", np.zeros(6), 0))
    (written,) = converted(tmp_path / "bag", tmp_path / "data", "wave")
    assert "Nothing new from wrist" in written.why
    assert written.rows == 30  # 10, and as long as the embodiment allows


def test_an_existing_target_is_not_overwritten(tmp_path):
    (tmp_path / "bag").mkdir()
    with pytest.raises(RecordingError, match="exists already"):
        export_bag(tmp_path / "data", tmp_path / "bag", ROBOT)
