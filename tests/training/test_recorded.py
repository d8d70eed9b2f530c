"""Recorded rows become chunks of the commands that followed."""

import dataclasses
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from moxin_vla.core.dataset import Drove
from moxin_vla.core.errors import RecordingError
from moxin_vla.policy.moxin.training.recorded import Mixture, load_recorded
from tests.recording.episodes import ROBOT, Session, brightness
from tests.recording.sound import record

H = 8


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def test_a_chunk_is_the_commands_that_followed_and_then_the_last_one(dataset, cache):
    data = load_recorded(dataset, ROBOT, H, cache)
    assert data.chunks.shape == (44, H, 6) and data.images.shape == (44, 2, 96, 96, 3)
    assert np.allclose(data.chunks[3, :, 0], np.arange(3, 3 + H) / 1000)
    assert np.allclose(data.chunks[17, :, 0], [0.017, 0.018, *[0.019] * 6])  # of 20 rows
    assert np.allclose(data.chunks[20, :, 0], 1 + np.arange(H) / 1000, atol=1e-6)
    assert data.images[25, 0].mean() == brightness(1, 5)
    assert [data.texts[i] for i in data.tasks[:1]] == ["pick up the red cube"]


def test_only_steps_that_the_operator_drove_count(dataset, cache):
    data = load_recorded(dataset, ROBOT, H, cache, [Drove.OPERATOR])
    assert data.counts[20 + 6].tolist() == [0, 0, 0, 0, 0, 0, 1, 1]
    assert data.counts[20 + 12].tolist() == [1] * H
    assert data.usable.tolist() == [*range(20), *range(25, 44)]  # within reach of the operator


def test_a_dataset_of_another_robot_is_refused_before_it_is_read(dataset, cache):
    camera = dataclasses.replace(ROBOT.cameras[0], name="side")
    other = dataclasses.replace(ROBOT, cameras=(camera,), control_rate_hz=30.0)
    with pytest.raises(RecordingError) as refusal:
        load_recorded(dataset, other, H, cache)
    assert "rate: found 20 Hz, expected 30 Hz" in str(refusal.value)
    assert "cameras: missing side" in str(refusal.value)


def test_a_folder_without_a_dataset_is_refused(tmp_path, cache):
    with pytest.raises(RecordingError, match="is not a LeRobotDataset"):
        load_recorded(tmp_path, ROBOT, H, cache)


def test_draws_go_on_where_they_were(dataset, cache):
    data = load_recorded(dataset, ROBOT, H, cache)
    once, again = Mixture([data], None, seed=3), Mixture([data], None, seed=3)
    once.draw(5)
    again.state = once.state
    assert once.draw(7).where == again.draw(7).where


def test_weights_say_how_often_each_dataset_is_drawn_from(dataset, cache):
    data = load_recorded(dataset, ROBOT, H, cache)
    operator = load_recorded(dataset, ROBOT, H, cache, [Drove.OPERATOR])
    drawn = Mixture([data, operator], [1.0, 0.0], seed=0).draw(50)
    assert drawn.counts.all()  # none of the second, whose chunks have steps that do not count


def with_cameras(cameras):
    return dataclasses.replace(ROBOT, cameras=tuple(cameras))


@pytest.fixture(scope="module")
def views(tmp_path_factory, cache):
    """A dataset whose cameras see different things, and its images, decoded already."""
    root = record(tmp_path_factory.mktemp("views") / "dataset", codec="png").root
    images = load_recorded(root, ROBOT, H, cache).images
    assert not np.array_equal(images[:, 0], images[:, 1])
    return root, images


def test_what_was_recorded_anew_in_the_same_place_is_decoded_anew(tmp_path):
    root, shown = tmp_path / "dataset", []
    for episode in (0, 9):
        shutil.rmtree(root, ignore_errors=True)
        with Session(root, codec="png") as session:
            session.record(episode)
        shown.append(load_recorded(root, ROBOT, H, tmp_path / "cache").images[5, 0].mean())
    assert shown == [brightness(0, 5), brightness(9, 5)]


def test_cameras_in_another_order_have_images_in_that_order(views, cache):
    root, images = views
    turned = load_recorded(root, with_cameras(ROBOT.cameras[::-1]), H, cache).images
    assert np.array_equal(turned, images[:, ::-1])


def test_cameras_of_another_size_have_images_of_that_size(views, cache):
    small = (dataclasses.replace(c, width=64, height=48) for c in ROBOT.cameras)
    data = load_recorded(views[0], with_cameras(small), H, cache)
    assert data.images.shape == (40, 2, 48, 64, 3)


def test_cameras_of_several_sizes_are_refused(dataset, cache):
    front, wrist = ROBOT.cameras
    unequal = with_cameras([front, dataclasses.replace(wrist, width=64, height=48)])
    with pytest.raises(RecordingError) as refusal:
        load_recorded(dataset, unequal, H, cache)
    assert "of several sizes, expected one: [(48, 64), (96, 96)]" in str(refusal.value)


@pytest.mark.parametrize(
    ("index", "episode"), [(30, 2), (44, 0)], ids=["numbered twice", "episodes out of order"]
)
def test_rows_that_a_failed_save_left_are_refused(dataset, tmp_path, cache, index, episode):
    root = shutil.copytree(dataset, tmp_path / "dataset")
    file = min((root / "data").rglob("*.parquet"))
    rows = parquet.read_table(file).slice(0, 10)
    for name, values in (("index", index + np.arange(10)), ("episode_index", [episode] * 10)):
        place = rows.column_names.index(name)
        rows = rows.set_column(place, rows.schema.field(name), pa.array(values, pa.int64()))
    parquet.write_table(rows, file.with_name("file-009.parquet"))
    with pytest.raises(RecordingError) as refusal:
        load_recorded(root, ROBOT, H, cache)
    assert "are not numbered 0, 1, 2, ... over its episodes" in str(refusal.value)
    assert f"moxin-vla dataset check {root}" in str(refusal.value)


def test_rows_that_can_not_be_read_are_refused(dataset, tmp_path, cache):
    root = shutil.copytree(dataset, tmp_path / "dataset")
    file = min((root / "data").rglob("*.parquet"))
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(RecordingError) as refusal:
        load_recorded(root, ROBOT, H, cache)
    assert f"The rows of '{root}' can't be read" in str(refusal.value)
    assert f"moxin-vla dataset check {root}" in str(refusal.value)


def test_weights_that_are_all_zero_are_refused(dataset, cache):
    data = load_recorded(dataset, ROBOT, H, cache)
    with pytest.raises(RecordingError, match="No dataset has a weight above 0"):
        Mixture([data, data], [0.0, 0.0], seed=0)
