"""Vision-language models: every layout, greedy and sampled answers, streaming, refusals."""

import json

import layouts
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from moxin_vla.core.errors import CheckpointError, InstructionError, PolicyError
from moxin_vla.policy.moxin.cache import KeyValueCache
from moxin_vla.policy.moxin.generation import Sampling, choose
from moxin_vla.policy.moxin.vlm import Vlm, VlmConfig
from moxin_vla.policy.moxin.vlm_loading import load_vlm

IMAGE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    layouts.small_towers(monkeypatch)


@pytest.fixture
def config():
    tiny = layouts.tiny_config()
    return VlmConfig("tiny", tiny.towers, tiny.text)


@pytest.fixture
def model(config):
    return layouts.random_model(config)


@pytest.fixture
def released(tmp_path, config, model):
    directory = tmp_path / "released"
    directory.mkdir()
    layouts.write_trunk(
        directory, model.state_dict() | layouts.unused_tensors(config, lm_head=False), shards=2
    )
    (directory / "config.json").write_text(json.dumps(layouts.released_json(config, {})))
    layouts.tokenizer().save(str(directory / "tokenizer.json"))
    return directory


def write_native(directory, model, monkeypatch, with_towers):
    """A run directory of Prismatic: towers under their own names, or left out as frozen."""
    from moxin_vla.policy.moxin import towers

    text = model.config.text
    monkeypatch.setitem(towers._LANGUAGE_MODELS, "moxin-7b-pure", text)
    monkeypatch.setattr(
        towers,
        "known_tower",
        lambda name, size, act: next(
            tower for tower in layouts.KNOWN if name.startswith(tower.model_id)
        ),
    )
    parts = {"projector": {}, "llm_backbone": {}, "vision_backbone": {}}
    numbers = {"fc1": "0", "fc2": "2", "fc3": "4"}
    for name, tensor in model.state_dict().items():
        module, _, rest = name.partition(".")
        if module == "projector":
            layer, _, kind = rest.partition(".")
            parts["projector"][f"projector.{numbers[layer]}.{kind}"] = tensor
        elif module == "language_model":
            parts["llm_backbone"][f"llm.{rest}"] = tensor
        else:
            tower, _, inner = rest.partition(".")
            theirs = {"featurizer": "dino_featurizer", "fused_featurizer": "siglip_featurizer"}
            inner = inner.replace("scale_factor", "gamma")
            parts["vision_backbone"][f"{theirs[tower]}.{inner}"] = tensor
    if not with_towers:
        del parts["vision_backbone"]
    (directory / "checkpoints").mkdir(parents=True)
    torch.save({"model": parts}, directory / "checkpoints" / "latest-checkpoint.pt")
    described = {
        "vision_backbone_id": "dinosiglip-vit-so-224px",
        "llm_backbone_id": "moxin-7b-pure",
    }
    (directory / "config.json").write_text(json.dumps({"model": described}))
    return directory


def _answer(vlm, **sampling):
    return "".join(vlm.ask(IMAGE, "what is this?", Sampling(max_new_tokens=12, **sampling)))


def test_released_and_native_answer_alike(released, tmp_path, model, monkeypatch):
    native = write_native(tmp_path / "native", model, monkeypatch, with_towers=True)
    tokenizer = str(released / "tokenizer.json")
    answers = [_answer(load_vlm(released)), _answer(load_vlm(native, tokenizer=tokenizer))]
    assert answers[0] == answers[1] != ""


def test_frozen_towers_come_from_timms_files(released, tmp_path, model, monkeypatch):
    native = write_native(tmp_path / "native", model, monkeypatch, with_towers=False)
    tokenizer = str(released / "tokenizer.json")
    with pytest.raises(CheckpointError) as error:
        load_vlm(native, tokenizer=tokenizer)
    assert str(error.value) == (
        "The checkpoint leaves out its vision towers. Name one file or Hugging Face id for each "
        "of: timm/vit_large_patch14_reg4_dinov2, timm/vit_so400m_patch14_siglip. Got: none"
    )
    files = []
    for name in ("featurizer", "fused_featurizer"):
        prefix = f"vision_backbone.{name}."
        tensors = {
            key.removeprefix(prefix).replace("scale_factor", "gamma"): tensor.clone()
            for key, tensor in model.state_dict().items()
            if key.startswith(prefix)
        }
        files.append(str(tmp_path / f"{name}.safetensors"))
        save_file(tensors, files[-1])
    found = load_vlm(native, tokenizer=tokenizer, towers=tuple(files))
    assert _answer(found) == _answer(load_vlm(released))


def test_the_cache_gives_what_the_whole_sequence_gives(model, config):
    torch.manual_seed(1)
    pixels, ids = torch.randn(1, 6, 28, 28), torch.tensor([[1, 5, 9, 7]])
    more = torch.tensor([[11, 13, 17]])
    cache = KeyValueCache(config.text, 1, 32, pixels)
    with torch.inference_mode():
        states = [model.prefill(pixels, ids, cache)]
        for token in more[0]:
            position = torch.tensor([cache.length])
            embedded = model.language_model.model.embed_tokens(token.view(1, 1))
            trunk = model.language_model.model
            states.append(trunk(embedded, position, causal=True, cache=cache))
        whole = KeyValueCache(config.text, 1, 32, pixels)
        last = model.prefill(pixels, torch.cat([ids, more], 1), whole)
    torch.testing.assert_close(states[-1], last, atol=1e-5, rtol=1e-5)


def test_another_image_gives_other_states(model, config):
    ids = torch.tensor([[1, 5, 9, 7]])
    states = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        pixels = torch.randn(1, 6, 28, 28)
        states.append(model.prefill(pixels, ids, KeyValueCache(config.text, 1, 32, pixels)))
    assert not torch.allclose(*states)


def test_samples_depend_on_the_seed_only(released):
    vlm = load_vlm(released)
    one, two = (_answer(vlm, temperature=1.5, seed=seed) for seed in (1, 2))
    assert one == _answer(vlm, temperature=1.5, seed=1) and one != two


def test_the_nucleus_leaves_out_the_tail():
    logits = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05]))
    generator = torch.Generator().manual_seed(0)
    drawn = {choose(logits, Sampling(temperature=1.0, top_p=0.7), generator) for _ in range(200)}
    assert drawn == {0, 1}
    assert choose(logits, Sampling(), generator) == 0


def test_answers_stream_in_whole_characters(model):
    vlm = Vlm(model, layouts.tokenizer(), [0.5] * 6, [0.5] * 6)
    ids = layouts.tokenizer().encode("é the cube", add_special_tokens=False).ids
    pieces = list(vlm._text(iter(ids)))
    assert "".join(pieces) == "é the cube" and len(pieces) > 2


def test_answers_end_at_the_limit_of_the_sequence(released, monkeypatch):
    vlm = load_vlm(released)
    object.__setattr__(vlm.config, "llm_max_length", 60)
    list(vlm.ask(IMAGE, "what?", Sampling(max_new_tokens=500)))


def test_a_policy_is_not_asked(released):
    file = released / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model_type": "openvla"}))
    with pytest.raises(CheckpointError) as error:
        load_vlm(released)
    assert str(error.value) == (
        f"'{released}' acts instead of answering. Expected a Prismatic model, such as Moxin-VLM."
    )


def test_empty_and_endless_questions_are_refused(released):
    vlm = load_vlm(released)
    with pytest.raises(InstructionError, match="The question is empty"):
        vlm.ask(IMAGE, "  ")
    with pytest.raises(PolicyError, match="Beside the image there is room for 2044"):
        vlm.ask(IMAGE, "why? " * 3000)
    with pytest.raises(PolicyError, match="An image must be uint8 RGB"):
        vlm.ask(IMAGE[..., 0], "what?")


def test_sampling_out_of_range_is_refused():
    with pytest.raises(PolicyError, match="Sampling needs max_new_tokens >= 1"):
        Sampling(top_p=0.0)
