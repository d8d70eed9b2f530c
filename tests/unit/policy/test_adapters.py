"""LoRA: merged with alpha / r, from an adapter beside its base and from wrapped towers."""

import json
from dataclasses import replace

import layouts
import pytest
import torch
from safetensors.torch import save_file

from moxin_vla.core.errors import CheckpointError
from moxin_vla.policy.moxin.checkpoint import load_checkpoint
from moxin_vla.policy.moxin.policy_file import PolicyFile

_LAYER = "language_model.model.layers.0.self_attn.q_proj"


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    layouts.small_towers(monkeypatch)


@pytest.fixture
def base(tmp_path):
    config = layouts.tiny_config()
    directory = tmp_path / "base"
    return layouts.write_released(directory, config, layouts.random_model(config))


@pytest.fixture
def tuned(base, tmp_path):
    """A fine-tuned run that was never merged: everything but the trunk's own weights."""
    directory = tmp_path / "tuned"
    adapter = directory / "lora_adapter"
    adapter.mkdir(parents=True)
    for file in base.iterdir():
        if file.suffix != ".safetensors":
            (directory / file.name).write_bytes(file.read_bytes())
    write_adapter(adapter, str(base))
    return directory


def write_adapter(folder, base, **changes):
    torch.manual_seed(7)
    tensors = {
        f"base_model.model.{_LAYER}.lora_A.weight": torch.randn(32, 32),
        f"base_model.model.{_LAYER}.lora_B.weight": torch.randn(32, 32),
    }
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 32, "lora_alpha": 16, "base_model_name_or_path": base}
    (folder / "adapter_config.json").write_text(json.dumps(config | changes))
    return tensors


def _load(directory, **changes):
    return load_checkpoint(PolicyFile(str(directory), layouts.SAID, **changes))


def test_an_adapter_is_merged_with_alpha_over_r(base, tuned):
    plain = _load(base).model.state_dict()[f"{_LAYER}.weight"]
    loaded = _load(tuned)
    a, b = write_adapter(tuned / "lora_adapter", str(base)).values()
    found = loaded.model.state_dict()[f"{_LAYER}.weight"]
    torch.testing.assert_close(found, plain + 0.5 * b @ a)
    assert loaded.notes == (f"LoRA of rank 32 merged into {base} with scale 0.5",)


def test_the_base_may_be_named_by_the_user(base, tuned):
    write_adapter(tuned / "lora_adapter", "/somewhere/else")
    with pytest.raises(CheckpointError) as error:
        _load(tuned)
    assert str(error.value) == (
        f"'{tuned}' holds an adapter without its base, which was '/somewhere/else'. "
        "Set base to a directory that has it."
    )
    assert _load(tuned, base=str(base)).notes


def test_merged_weights_are_not_merged_again(base):
    (base / "lora_adapter").mkdir()
    plain = _load(base).model.state_dict()[f"{_LAYER}.weight"]
    write_adapter(base / "lora_adapter", str(base))
    loaded = _load(base)
    assert torch.equal(loaded.model.state_dict()[f"{_LAYER}.weight"], plain)
    assert loaded.notes == (
        "lora_adapter/ is there too and was left alone: the weights are merged already",
    )


@pytest.mark.parametrize("change", [{"use_dora": True}, {"bias": "all"}, {"peft_type": "IA3"}])
def test_an_adapter_of_another_kind_is_refused(base, tuned, change):
    write_adapter(tuned / "lora_adapter", str(base), **change)
    with pytest.raises(CheckpointError, match="can't be merged: only plain LoRA can"):
        _load(tuned)


def test_a_wrapped_film_backbone_is_merged(tmp_path):
    config = replace(layouts.tiny_config(), film=True)
    model = layouts.random_model(config)
    layouts.write_released(tmp_path, config, model)
    file = tmp_path / "vision_backbone--150000_checkpoint.pt"
    tensors = torch.load(file, weights_only=True)
    name = "module.featurizer.blocks.1.block.attn.qkv"
    weight = tensors.pop(f"{name}.weight")
    tensors[f"{name}.base_layer.weight"] = weight
    tensors[f"{name}.base_layer.bias"] = tensors.pop(f"{name}.bias")
    a, b = torch.randn(4, 16), torch.randn(48, 4)
    tensors[f"{name}.lora_A.default.weight"], tensors[f"{name}.lora_B.default.weight"] = a, b
    wrapped = {key.replace("module.", "module.vision_backbone."): v for key, v in tensors.items()}
    torch.save(wrapped, file)
    state = _load(tmp_path).model.state_dict()
    found = state["vision_backbone.featurizer.blocks.1.attn.qkv.weight"]
    torch.testing.assert_close(found, weight + 0.5 * b @ a)
    original = model.state_dict()
    name = "vision_backbone.featurizer.blocks.0.scale.weight"
    assert torch.equal(state[name], original[name])
