"""Inspecting and converting: what is shown, what would be refused, and that nothing is lost."""

import json

import layouts
import pytest

from moxin_vla.core.errors import CheckpointError
from moxin_vla.policy.moxin.checkpoint import load_checkpoint
from moxin_vla.policy.moxin.conversion import convert_checkpoint, tensors_digest
from moxin_vla.policy.moxin.inspection import inspect_checkpoint
from moxin_vla.policy.moxin.layout import gather
from moxin_vla.policy.moxin.policy_file import PolicyFile


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    layouts.small_towers(monkeypatch)


@pytest.fixture
def released(tmp_path):
    config = layouts.tiny_config(film=True)
    model = layouts.random_model(config)
    return layouts.write_released(tmp_path / "released", config, model, shards=2)


def _said(directory):
    return PolicyFile(str(directory), layouts.SAID)


def test_a_converted_checkpoint_needs_no_policy_file_and_acts_the_same(released, tmp_path):
    done = convert_checkpoint(_said(released), tmp_path / "ours")
    before, after = load_checkpoint(_said(released)), load_checkpoint(tmp_path / "ours")
    assert before.config.cameras == after.config.cameras
    assert before.preprocessor.steps == after.preprocessor.steps
    state = after.model.state_dict()
    assert all(bool((state[k] == v).all()) for k, v in before.model.state_dict().items())
    record = json.loads((tmp_path / "ours" / "conversion.json").read_text())
    assert record["sha256 of all tensors"] == done.digest
    assert record["tensors"] == done.tensors == len(gather(released).weights)


def test_back_to_the_released_layout_every_tensor_is_there(released, tmp_path):
    convert_checkpoint(_said(released), tmp_path / "ours")
    convert_checkpoint(tmp_path / "ours", tmp_path / "back", "released")
    again, first = gather(tmp_path / "back").weights, gather(released).weights
    assert "language_model.lm_head.weight" in again
    assert tensors_digest(again) == tensors_digest(first)
    assert "moxin_vla" not in json.loads((tmp_path / "back" / "config.json").read_text())


def test_a_target_that_is_not_empty_is_refused(released):
    with pytest.raises(CheckpointError) as error:
        convert_checkpoint(_said(released), released)
    assert str(error.value) == f"'{released}' is not empty. Choose a new directory."


def test_heads_do_not_fit_the_native_layout(released, tmp_path):
    with pytest.raises(CheckpointError, match="native layout has no place for heads and proprio"):
        convert_checkpoint(_said(released), tmp_path / "native", "native")


def test_an_inspection_shows_ranges_and_finds_nothing_wrong(released, embodiment):
    found = inspect_checkpoint(_said(released))
    assert found.refusals == []
    rows = {title: dict(rows) for title, rows in found.sections.items()}
    assert rows["model"]["FiLM"] == "yes"
    assert rows["actions"]["chunk"] == "3 steps at 20 Hz (0.15 s)"
    assert rows["actions"]["  shoulder_pan"] == "-0.5000 to +0.5000"
    assert rows["actions"]["  gripper"] == "as it is, not scaled"
    assert rows["images"]["cameras, in this order"] == "front, wrist"
    assert rows["size"]["left out, never computed"] == "0.0117 M"
    assert inspect_checkpoint(_said(released), embodiment).refusals == []


def test_an_inspection_collects_every_refusal(released, embodiment):
    file = released / "dataset_statistics.json"
    file.write_text(json.dumps({"other": layouts.statistics(7, 8)}))
    (released / "tokenizer.json").unlink()
    said = PolicyFile(str(released), layouts.SAID | {"control_rate_hz": 5.0})
    refusals = inspect_checkpoint(said, embodiment).refusals
    assert len(refusals) == 3
    assert refusals[0].startswith("dataset_statistics.json: 'action.q01' must hold 6 finite")
    assert refusals[1].startswith("The checkpoint has no tokenizer: ")
    assert refusals[2] == (
        "Policy 'released' was trained at 5.0 Hz. Embodiment 'so101_sim' runs at 20.0 Hz."
    )


def test_an_inspection_of_what_does_not_open_says_why(released):
    found = inspect_checkpoint(released)
    assert len(found.refusals) == 1
    assert found.refusals[0].startswith("The checkpoint does not say: cameras")
    assert "tokenizer.json" in dict(found.sections["files"])
