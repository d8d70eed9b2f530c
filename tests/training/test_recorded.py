"""Recorded rows become chunks of the commands that followed."""

import dataclasses

import numpy as np
import pytest

from moxin_vla.core.dataset import Drove
from moxin_vla.core.errors import RecordingError
from moxin_vla.policy.moxin.training.recorded import Mixture, load_recorded
from tests.recording.episodes import ROBOT, brightness

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
