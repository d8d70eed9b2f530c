"""Released directories load, give what their weights say, and are refused when they do not fit."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import layouts
import numpy as np
import pytest
import torch

from moxin_vla.core.embodiment import ActionSpace
from moxin_vla.core.errors import CheckpointError
from moxin_vla.policy.moxin.checkpoint import load_checkpoint
from moxin_vla.policy.moxin.decoding import predict
from moxin_vla.policy.moxin.policy_file import PolicyFile, read_policy_file


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    layouts.small_towers(monkeypatch)


def _inputs(config):
    torch.manual_seed(3)
    channels = 3 * len(config.towers) * config.num_images
    proprio = torch.randn(1, config.proprio_dim) if config.proprio_dim else None
    return torch.randn(1, channels, 28, 28), torch.tensor([[1, 9, 8, 7]]), proprio


VARIANTS = {
    "llama": {"text": replace(layouts.tiny_config().text, model_type="llama")},
    "mistral": {},
    "causal": {"attention": "causal"},
    "one camera": {"cameras": ("front",)},
    "film": {"film": True},
    "no proprio": {"proprio_names": ()},
    "diffusion": {"head": "diffusion", "diffusion_steps": 4},
    "parallel tokens": {"head": "discrete", "proprio_names": (), "slots_per_step": None},
    "openvla": {
        "head": "discrete",
        "decoding": "autoregressive",
        "attention": "causal",
        "proprio_names": (),
        "cameras": ("front",),
        "chunk": 1,
        "slots_per_step": None,
    },
    "dino alone": {"towers": (layouts.DINO,)},
    "siglip alone": {"towers": (layouts.SIGLIP,)},
    "clip alone": {"towers": (layouts.CLIP,)},
}


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_loads_and_predicts_what_its_weights_say(tmp_path, variant, shards):
    config = layouts.tiny_config(**VARIANTS[variant])
    model = layouts.random_model(config)
    layouts.write_released(tmp_path, config, model, shards=shards)
    said = layouts.SAID | VARIANTS[variant]
    for known in ("film", "towers", "text"):
        said.pop(known, None)
    loaded = load_checkpoint(PolicyFile(str(tmp_path), said))
    assert replace(loaded.config, name="tiny", towers=config.towers) == replace(
        config, llm_max_length=2048
    )
    assert torch.equal(predict(loaded.model, *_inputs(config)), predict(model, *_inputs(config)))


def test_libero_dims_need_no_policy_file(tmp_path):
    config = layouts.tiny_config(
        joints=layouts.LIBERO_ACTIONS,
        proprio_names=tuple("abcdefgh"),
        chunk=8,
        slots_per_step=7,
        cameras=("primary", "wrist"),
    )
    layouts.write_released(tmp_path, config, layouts.random_model(config))
    loaded = load_checkpoint(tmp_path)
    assert loaded.config.chunk == 8 and loaded.config.proprio_dim == 8
    assert loaded.config.action_space is ActionSpace.END_EFFECTOR_DELTA
    assert loaded.config.gripper_convention == "open_is_one"
    steps = loaded.preprocessor.steps
    assert steps.center_crop and steps.jpeg_round_trip and steps.resize == "lanczos3"
    assert steps.rotate_180 == ("primary", "wrist")


@pytest.fixture
def released(tmp_path) -> Path:
    config = layouts.tiny_config()
    return layouts.write_released(
        tmp_path / "tiny", config, layouts.random_model(config), shards=2
    )


def _message(directory: Path, **said: object) -> str:
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(PolicyFile(str(directory), layouts.SAID | said))
    return str(error.value)


def test_what_the_files_do_not_say_is_asked_for(released):
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(released)
    assert str(error.value) == (
        "The checkpoint does not say: cameras, joints, chunk, control_rate_hz, action_space, "
        "norm_type. Write a policy file that does; config/policies/ has examples."
    )


def test_a_truncated_shard_is_named(released):
    shard = released / "model-00002-of-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:-100])
    assert _message(released).startswith(f"'{shard}' is damaged or not a weights file: ")


def test_a_missing_shard_is_named(released):
    (released / "model-00002-of-00002.safetensors").unlink()
    assert _message(released) == (
        "The checkpoint is incomplete: model-00002-of-00002.safetensors missing in "
        f"'{released}', which model.safetensors.index.json names."
    )


def test_an_index_that_names_more_than_its_shards_hold_is_refused(released):
    index = released / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["language_model.model.more"] = "model-00001-of-00002.safetensors"
    index.write_text(json.dumps(content))
    assert _message(released) == (
        f"'{index}' names 1 tensors that its files don't hold: language_model.model.more"
    )


def test_a_missing_head_is_refused(released):
    (released / "action_head--150000_checkpoint.pt").unlink()
    assert _message(released) == (
        "The checkpoint has no action head: action_head--STEP_checkpoint.pt is missing. If it "
        "is an OpenVLA with discrete action tokens, say so in a policy file: head: discrete."
    )


def test_a_head_for_another_robot_is_refused(released):
    joints = (*layouts.JOINTS, "elbow_roll")
    assert _message(released, joints=joints, proprio_names=layouts.JOINTS) == (
        "The weights are for 6 actions. The policy file or the platform says 7."
    )


def test_proprio_of_another_robot_is_refused(released):
    assert _message(released, proprio_names=tuple("abcdefgh")) == (
        "The weights are for 6 proprio values. The policy file or the platform says 8."
    )


def test_statistics_of_another_robot_are_refused(released):
    file = released / "dataset_statistics.json"
    file.write_text(json.dumps({"other": layouts.statistics(7, 8)}))
    assert _message(released).startswith(
        "dataset_statistics.json: 'action.q01' must hold 6 finite values. Got: ["
    )


def test_two_statistics_and_none_chosen_are_refused(tmp_path):
    config = layouts.tiny_config()
    model = layouts.random_model(config)
    directory = layouts.write_released(tmp_path, config, model, keys=("one", "two"))
    assert _message(directory) == (
        "The checkpoint has statistics of several data sets and none was chosen. "
        "Set statistics_key to one of: one, two"
    )
    said = layouts.SAID | {"statistics_key": "two"}
    assert load_checkpoint(PolicyFile(str(directory), said)).config.statistics_key == "two"


def test_two_heads_and_no_step_are_refused(released):
    file = released / "action_head--150000_checkpoint.pt"
    shutil.copy(file, released / "action_head--50000_checkpoint.pt")
    assert _message(released) == (
        f"Expected exactly one file action_head--STEP_checkpoint.pt in '{released}'. "
        "Found: action_head--150000_checkpoint.pt, action_head--50000_checkpoint.pt"
    )
    load_checkpoint(PolicyFile(str(released), layouts.SAID, step="150000"))


def test_a_pickle_that_is_more_than_tensors_is_refused(released):
    file = released / "action_head--150000_checkpoint.pt"
    torch.save({"fc1.weight": Path("/")}, file)
    assert _message(released).startswith(f"'{file}' is damaged or not a weights file: ")


def test_every_tensor_is_accounted_for(released):
    file = released / "proprio_projector--150000_checkpoint.pt"
    content = torch.load(file, weights_only=True)
    content["module.fc9.weight"] = torch.zeros(2)
    del content["module.fc2.bias"]
    torch.save(content, file)
    assert _message(released) == (
        f"The weights in '{released}' don't fit its config.json.\n"
        "  missing 1: proprio_projector.fc2.bias\n"
        "  unexpected 1: proprio_projector.fc9.weight"
    )


def test_a_tokenizer_of_another_trunk_is_refused(released):
    file = released / "tokenizer.json"
    content = json.loads(file.read_text())
    vocab = content["model"]["vocab"]
    vocab["<s>"], vocab["</s>"] = vocab["</s>"], vocab["<s>"]
    for added in content["added_tokens"]:
        added["id"] = vocab[added["content"]]
    file.write_text(json.dumps(content))
    assert _message(released) == (
        "The tokenizer is not this checkpoint's: '<s>' is 2. bos_token_id says 1."
    )


def test_a_vision_language_model_is_not_a_policy(released):
    file = released / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model_type": "prismatic"}))
    assert _message(released) == (
        f"'{released}' is a vision-language model without actions. "
        "Ask it questions with: moxin-vla ask"
    )


def test_unknown_towers_and_trunks_are_named(released):
    file = released / "config.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"timm_model_ids": ["resnet50", "resnet50"]}))
    assert _message(released).startswith("Unknown vision tower 'resnet50'. Known: vit_large_")
    file.write_text(json.dumps(content | {"text_config": {"model_type": "gpt2"}}))
    assert _message(released) == (
        "Unknown text_config.model_type 'gpt2'. Choose from: llama, mistral"
    )


def test_norm_stats_of_the_config_are_taken_without_a_file_of_their_own(released):
    before = load_checkpoint(PolicyFile(str(released), layouts.SAID)).statistics
    (released / "dataset_statistics.json").unlink()
    after = load_checkpoint(PolicyFile(str(released), layouts.SAID)).statistics
    np.testing.assert_array_equal(after.action.low, before.action.low)


def test_a_policy_file_says_the_rest(released, tmp_path):
    file = tmp_path / "policy.yaml"
    file.write_text(
        "checkpoint: tiny\ncameras: [front, wrist]\nchunk: 3\ncontrol_rate_hz: 20.0\n"
        f"joints: [{', '.join(layouts.JOINTS)}]\naction_space: joint_position\n"
        "norm_type: bounds\nattention: causal\npreprocessing: {center_crop: false}\n"
    )
    loaded = load_checkpoint(read_policy_file(file))
    assert loaded.config.attention == "causal" and loaded.config.norm_type == "bounds"
    assert not loaded.preprocessor.steps.center_crop
    assert (
        loaded.fingerprint != load_checkpoint(PolicyFile(str(released), layouts.SAID)).fingerprint
    )


def test_a_policy_file_with_an_unknown_field_is_refused(tmp_path):
    file = tmp_path / "policy.yaml"
    file.write_text("checkpoint: x\nchunks: 3\n")
    with pytest.raises(CheckpointError, match=f"'{file}': unknown chunks. Known: checkpoint, "):
        read_policy_file(file)


def test_a_policy_file_that_names_no_checkpoint_is_refused(tmp_path):
    file = tmp_path / "policy.yaml"
    file.write_text("chunk: 3\n")
    with pytest.raises(CheckpointError) as error:
        read_policy_file(file)
    assert str(error.value) == f"'{file}' must be a mapping with at least: checkpoint"
