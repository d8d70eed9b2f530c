"""The types of the data flow refuse what is malformed and can't be changed afterwards."""

import dataclasses

import numpy as np
import pytest

from moxin_vla.core.errors import InstructionError, ObservationError, PolicyError
from moxin_vla.core.types import (
    ActionChunk,
    CommitReason,
    CommitVerdict,
    Observation,
    checked_instruction,
    frozen_array,
)


def observation(**changes):
    values = {
        "time_ns": 5,
        "images": {"front": np.zeros((4, 6, 3), np.uint8)},
        "proprio": [0.0, 1.0],
        "instruction": "pick up the red cube",
    }
    return Observation(**(values | changes))


def test_frozen_array_is_a_read_only_copy():
    source = np.zeros(3)
    copy = frozen_array(source)
    source[0] = 1.0
    assert copy.tolist() == [0.0, 0.0, 0.0]
    with pytest.raises(ValueError, match="read-only"):
        copy[0] = 1.0


@pytest.mark.parametrize("text", ["", "  \n", None, 3])
def test_an_empty_instruction_is_refused(text):
    with pytest.raises(InstructionError) as caught:
        checked_instruction(text)
    assert str(caught.value) == (
        f"The instruction is empty. Got: {text!r}. Expected: text such as 'pick up the red cube'."
    )


def test_observation_strips_the_instruction():
    assert observation(instruction="  touch the blue cube\n").instruction == "touch the blue cube"


def test_observation_does_not_follow_its_sources():
    pixels, proprio = np.zeros((4, 6, 3), np.uint8), np.zeros(2)
    images = {"front": pixels}
    made = observation(images=images, proprio=proprio)
    pixels[:], proprio[:] = 255, 9.0
    images["wrist"] = pixels
    assert list(made.images) == ["front"]
    assert made.images["front"].max() == 0
    assert made.proprio.tolist() == [0.0, 0.0]


def test_observation_can_not_be_changed():
    made = observation()
    with pytest.raises(ValueError, match="read-only"):
        made.images["front"][0, 0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        made.proprio[0] = 1.0
    with pytest.raises(TypeError, match="does not support item assignment"):
        made.images["front"] = np.zeros((4, 6, 3), np.uint8)
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.time_ns = 6


@pytest.mark.parametrize("proprio", [[0.0, float("nan")], [float("inf"), 0.0], [[0.0, 0.0]]])
def test_observation_refuses_unusable_proprio(proprio):
    with pytest.raises(ObservationError) as caught:
        observation(proprio=proprio)
    assert str(caught.value) == f"Proprio must be finite and of shape (D,). Got: {proprio}"


@pytest.mark.parametrize(
    ("pixels", "got"),
    [
        (np.zeros((4, 6, 3), np.float32), "float32 (4, 6, 3)"),
        (np.zeros((4, 6), np.uint8), "uint8 (4, 6)"),
        (np.zeros((3, 4, 6), np.uint8), "uint8 (3, 4, 6)"),
    ],
)
def test_observation_refuses_what_is_not_an_rgb_image(pixels, got):
    with pytest.raises(ObservationError) as caught:
        observation(images={"wrist": pixels})
    assert str(caught.value) == (
        f"Image 'wrist' must be uint8 of shape (height, width, 3). Got: {got}"
    )


@pytest.mark.parametrize("shape", [(6,), (0, 6), (16, 0), (1, 16, 6)])
def test_a_chunk_must_be_two_dimensional_and_not_empty(shape):
    with pytest.raises(PolicyError) as caught:
        ActionChunk(0, 50, np.zeros(shape))
    assert str(caught.value) == f"An action chunk must be of shape (H, D). Got: {shape}"


@pytest.mark.parametrize("step_ns", [0, -1])
def test_a_chunk_needs_a_positive_step(step_ns):
    with pytest.raises(PolicyError) as caught:
        ActionChunk(0, step_ns, np.zeros((2, 2)))
    assert str(caught.value) == f"step_ns must be positive. Got: {step_ns}"


def test_a_chunk_may_carry_nan_but_no_change():
    chunk = ActionChunk(0, 50, [[float("nan"), 0.0]])
    assert chunk.horizon == 1
    with pytest.raises(ValueError, match="read-only"):
        chunk.actions[0, 0] = 0.0


def test_only_one_verdict_is_acceptance():
    accepted = [reason for reason in CommitReason if CommitVerdict(reason).accepted]
    assert accepted == [CommitReason.ACCEPTED]


def test_an_observation_without_committed_steps_has_none_of_its_width():
    observation = Observation(0, {}, np.zeros(3), "go")
    assert observation.committed.shape == (0, 3)


@pytest.mark.parametrize("committed", [np.zeros((2, 4)), np.zeros(3), [[0.0, np.nan, 0.0]]])
def test_committed_steps_must_be_finite_and_fit_the_proprio(committed):
    with pytest.raises(ObservationError, match=r"must be finite and of shape \(d, 3\)"):
        Observation(0, {}, np.zeros(3), "go", committed)
