"""Whatever folder is named, it is recorded into, or refused in words and left as it is."""

import errno
import json
import shutil
import time
from pathlib import Path

import pytest

from moxin_vla.core.errors import RecordingError
from moxin_vla.recording import store as store_module
from moxin_vla.recording.editing import take_episodes
from moxin_vla.recording.stored import StoredDataset
from tests.recording.episodes import ROBOT, Session, check_alignment, loaded, open_store, row


@pytest.fixture
def root(tmp_path):
    return tmp_path / "dataset"


def refusal(root):
    with pytest.raises(RecordingError) as refused:
        open_store(root, codec="png")
    return str(refused.value)


@pytest.mark.parametrize("codec", ["png", "h264"])
def test_a_part_of_a_dataset_is_extended_again_and_again(root, tmp_path, codec):
    with Session(root, codec=codec) as session:
        for episode in range(4):
            session.record(episode, rows=5)
    part = tmp_path / "part"
    take_episodes(StoredDataset(root), {part: [1, 3]})  # files keep their numbers
    for episode in range(10, 13):
        with Session(part, codec=codec) as session:
            session.record(episode, rows=5)
        assert [(w.rows, w.failed) for w in session.written] == [(5, False)]
    dataset = loaded(part)
    firsts = [int(dataset[5 * i]["stamp.tick"]) // ROBOT.step_ns for i in range(5)]
    assert firsts == [1000, 3000, 10_000, 11_000, 12_000]
    check_alignment(dataset, stride=1)


def empty_folder(place):
    place.mkdir()
    return place


def link_to_a_folder(place):
    place.symlink_to(empty_folder(place.with_name("elsewhere")))
    return place


def link_to_nothing(place):
    place.symlink_to(place.with_name("elsewhere"))
    return place


def odd_name(place):
    return place.with_name("a b") / "ü 日本"


@pytest.mark.parametrize("made", [empty_folder, link_to_a_folder, link_to_nothing, odd_name])
def test_an_empty_place_becomes_a_dataset_and_a_link_stays_one(root, made):
    place = made(root)
    is_link = place.is_symlink()
    for episode in range(2):
        with Session(place, codec="png") as session:
            session.record(episode, rows=3)
    check_alignment(loaded(place))
    assert loaded(place).num_episodes == 2 and place.is_symlink() == is_link


def test_the_working_directory_can_be_recorded_into_more_than_once(root, monkeypatch):
    root.mkdir()
    monkeypatch.chdir(root)
    for episode in range(2):
        with Session(Path(), codec="png") as session:
            session.record(episode, rows=3)
    assert loaded(root).num_episodes == 2


def test_a_disk_can_be_recorded_into_where_it_is_mounted(small_disk):
    with Session(small_disk, codec="png", least_free_bytes=0) as session:
        session.record(0, rows=3)
    assert loaded(small_disk).num_episodes == 1


def file(place):
    place.write_text("mine")
    return place


def below_a_file(place):
    return file(place) / "dataset"


def link_to_itself(place):
    place.symlink_to(place)
    return place


@pytest.mark.parametrize("made", [file, below_a_file, link_to_itself])
def test_a_place_where_no_folder_can_be_is_refused(root, made):
    place = made(root)
    assert refusal(place).startswith(f"'{place}' can't be recorded into: ")
    assert list(root.parent.iterdir()) == [root]


def broken(text, info):
    return "{"


def empty(text, info):
    return "{}"


def older(text, info):
    return json.dumps(info | {"codebase_version": "v2.1"})


def with_another_column(text, info):
    mine = {"dtype": "float32", "shape": [1], "names": None}
    return json.dumps(info | {"features": info["features"] | {"mine": mine}})


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (broken, "info.json' is not valid JSON: Expecting property name"),
        (empty, "info.json' lacks: features, fps"),
        (older, "has version v2.1. Expected: v3.0"),
        (with_another_column, "mine: found a column that is not recorded, expected absent"),
    ],
)
def test_a_dataset_that_can_not_be_read_or_extended_is_refused_as_it_is(root, change, why):
    with Session(root, codec="png") as session:
        session.record(0, rows=3)
    path = root / "meta" / "info.json"
    text = path.read_text()
    path.write_text(changed := change(text, json.loads(text)))
    assert why in refusal(root)
    assert path.read_text() == changed
    path.write_text(text)
    assert open_store(root, codec="png").episodes == 1  # the refusal holds no lock


def test_a_disk_without_locks_is_not_taken_for_another_recorder(root, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(store_module.fcntl, "flock", flock)
    assert refusal(root) == f"'{root}' can't be recorded into: [Errno 37] No locks available"


def test_a_stray_folder_among_the_staged_ones_does_not_keep_anybody_from_recording(root):
    open_store(root, codec="png").close()
    stage = root / ".recording"
    (stage / "notes").mkdir()
    (stage / "tmp").mkdir()
    (stage / "tmp" / "READY").write_text("[]")
    with Session(root, codec="png") as session:
        assert session.recovered == [
            "episode notes was cut off and is dropped",
            "episode tmp was complete and is kept",
        ]
        session.record(0, rows=3)
    assert loaded(root).num_episodes == 1


def test_a_folder_that_is_removed_while_recording_is_told(root):
    with Session(root) as session:
        session.recorder.begin()
        session.recorder.add([row(0, k) for k in range(5)])
        while session.recorder.waiting_bytes:
            time.sleep(0.01)
        shutil.rmtree(root)
        session.recorder._looked_s = 0.0
        with pytest.raises(RecordingError, match=r"The dataset's disk is gone: .*No such file"):
            session.recorder.add([row(0, 5)])
        session.recorder.finish(1, "the folder is gone", {})
        with pytest.raises(RecordingError, match="The dataset's disk is gone"):
            session.recorder.begin()
    assert [(w.index, w.failed) for w in session.written] == [(None, True)]
