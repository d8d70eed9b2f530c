import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from moxin_vla.core.errors import CheckpointError
from moxin_vla.policy.moxin.checkpoint import load_checkpoint, save_checkpoint
from moxin_vla.policy.moxin.presets import write_random_checkpoint
from moxin_vla.policy.moxin.statistics import load_statistics
from moxin_vla.policy.moxin.tokenizer import load_tokenizer


@pytest.fixture
def directory(random_checkpoint, tmp_path):
    return shutil.copytree(random_checkpoint, tmp_path / "copy")


def _edit_weights(directory, change):
    tensors = load_file(directory / "model.safetensors")
    change(tensors)
    save_file(tensors, directory / "model.safetensors")


def _message(directory) -> str:
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(directory)
    return str(error.value)


def test_directory_has_the_released_files(directory):
    assert sorted(path.name for path in directory.iterdir()) == [
        "action_head--latest_checkpoint.pt",
        "config.json",
        "dataset_statistics.json",
        "model.safetensors",
        "preprocessor_config.json",
        "proprio_projector--latest_checkpoint.pt",
        "tokenizer.json",
        "vision_backbone--latest_checkpoint.pt",
    ]


def test_weights_survive_bit_for_bit(random_checkpoint, tmp_path):
    loaded = load_checkpoint(random_checkpoint)
    state = loaded.model.state_dict()
    for index, tensor in enumerate(state.values()):
        tensor.normal_(generator=torch.Generator().manual_seed(index))
    statistics = load_statistics(random_checkpoint / "dataset_statistics.json")
    tokenizer = load_tokenizer(random_checkpoint / "tokenizer.json")
    save_checkpoint(tmp_path, loaded.model, statistics, tokenizer)
    again = load_checkpoint(tmp_path)
    assert again.model.state_dict().keys() == state.keys()
    assert all(torch.equal(again.model.state_dict()[key], state[key]) for key in state)
    assert again.config == loaded.config


def test_the_same_seed_writes_the_same_checkpoint(embodiment, random_checkpoint, tmp_path):
    write_random_checkpoint(tmp_path / "same", embodiment, seed=0)
    write_random_checkpoint(tmp_path / "other", embodiment, seed=1)
    fingerprint = load_checkpoint(random_checkpoint).fingerprint
    assert load_checkpoint(tmp_path / "same").fingerprint == fingerprint
    assert load_checkpoint(tmp_path / "other").fingerprint != fingerprint


def test_film_towers_are_saved_under_the_wrappers_names(directory):
    file = directory / "vision_backbone--latest_checkpoint.pt"
    keys = torch.load(file, weights_only=True).keys()
    assert "featurizer.blocks.0.block.attn.qkv.weight" in keys
    assert "featurizer.blocks.0.scale.weight" in keys
    assert "fused_featurizer.blocks.0.shift.bias" in keys
    assert "featurizer.pos_embed" in keys


def test_keys_of_distributed_training_lose_their_prefix(directory):
    before = load_checkpoint(directory).model.state_dict()
    file = directory / "action_head--latest_checkpoint.pt"
    head = torch.load(file, weights_only=True)
    torch.save({f"module.{key}": tensor for key, tensor in head.items()}, file)
    after = load_checkpoint(directory).model.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_unused_tensors_of_released_checkpoints_are_ignored(directory):
    unused = (
        "language_model.lm_head.weight",
        "vision_backbone.featurizer.blocks.1.norm1.weight",
        "vision_backbone.featurizer.norm.weight",
        "vision_backbone.fused_featurizer.attn_pool.latent",
    )
    _edit_weights(directory, lambda t: t.update({key: torch.zeros(1) for key in unused}))
    load_checkpoint(directory)


def test_missing_tensor_is_named(directory):
    _edit_weights(directory, lambda tensors: tensors.pop("projector.fc1.bias"))
    assert _message(directory) == (
        f"The weights in '{directory}' don't fit its config.json.\n  missing 1: projector.fc1.bias"
    )


def test_unexpected_tensor_is_named(directory):
    _edit_weights(directory, lambda t: t.update({"projector.fc9.bias": torch.zeros(1)}))
    assert _message(directory) == (
        f"The weights in '{directory}' don't fit its config.json.\n"
        "  unexpected 1: projector.fc9.bias"
    )


def test_block_beyond_the_tower_is_unexpected(directory):
    key = "vision_backbone.featurizer.blocks.2.norm1.weight"
    _edit_weights(directory, lambda t: t.update({key: torch.zeros(1)}))
    assert f"unexpected 1: {key}" in _message(directory)


def test_wrong_shape_says_found_and_expected(directory):
    _edit_weights(directory, lambda t: t.update({"projector.fc3.bias": torch.zeros(5)}))
    assert _message(directory).endswith(
        "wrong shape 1: projector.fc3.bias (found (5,), expected (32,))"
    )


def test_many_missing_tensors_are_counted_and_the_first_shown(directory):
    def drop_trunk(tensors):
        for key in [k for k in tensors if k.startswith("language_model.")]:
            del tensors[key]

    _edit_weights(directory, drop_trunk)
    message = _message(directory)
    assert "missing 11: language_model.model.embed_tokens.weight, " in message
    assert message.endswith(", ...")


@pytest.mark.parametrize("name", ["model.safetensors", "action_head--latest_checkpoint.pt"])
def test_truncated_file_is_refused(directory, name):
    file = directory / name
    file.write_bytes(file.read_bytes()[:-200])
    assert _message(directory).startswith(f"'{file}' is damaged or not a weights file: ")


def test_pickled_code_is_refused(directory):
    file = directory / "action_head--latest_checkpoint.pt"
    torch.save({"model.fc1.weight": print}, file)
    assert _message(directory).startswith(f"'{file}' is damaged or not a weights file: ")


def test_two_steps_of_one_module_are_refused(directory):
    shutil.copy(
        directory / "action_head--latest_checkpoint.pt",
        directory / "action_head--500_checkpoint.pt",
    )
    assert _message(directory) == (
        f"Expected exactly one file action_head--STEP_checkpoint.pt in '{directory}'. "
        "Found: action_head--500_checkpoint.pt, action_head--latest_checkpoint.pt"
    )


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "dataset_statistics.json", "tokenizer.json"]
)
def test_missing_file_is_named(directory, name):
    (directory / name).unlink()
    assert f"'{directory / name}' is missing." in _message(directory)


def test_missing_directory_is_named(tmp_path):
    assert _message(tmp_path / "no") == f"There is no checkpoint directory at '{tmp_path / 'no'}'."


def test_fingerprint_changes_with_the_statistics(directory):
    before = load_checkpoint(directory).fingerprint
    file = directory / "dataset_statistics.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    content["random"]["action"]["q99"][0] += 0.01
    file.write_text(json.dumps(content), encoding="utf-8")
    assert load_checkpoint(directory).fingerprint != before


def test_interrupted_write_leaves_the_old_file(directory, monkeypatch):
    from moxin_vla.policy.moxin import checkpoint

    loaded = load_checkpoint(directory)

    def crash(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(checkpoint, "save_file", crash)
    with pytest.raises(OSError, match="no space left"):
        checkpoint.save_checkpoint(directory, loaded.model, {}, None)
    assert load_checkpoint(directory).fingerprint == loaded.fingerprint
