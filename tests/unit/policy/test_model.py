from dataclasses import replace

import pytest
import torch

from moxin_vla.policy.moxin.architecture import TextConfig, VisionTowerConfig
from moxin_vla.policy.moxin.config import MoxinConfig
from moxin_vla.policy.moxin.model import MoxinVLA, token_layout

_DINO = VisionTowerConfig("dinov2", 224, 14, 1024, 24, 16, 4096, 5, True, 23)
_SIGLIP = VisionTowerConfig("siglip", 224, 14, 1152, 27, 16, 4304, 0, False, 26)
_MOXIN_7B = TextConfig("mistral", 32064, 4096, 14336, 36, 32, 8, 1e-5)


@pytest.fixture
def full_size(config) -> MoxinConfig:
    """Moxin-VLA 7B in the LIBERO setting: 2 images, 7 action dims, chunk 8."""
    return replace(
        config,
        towers=(_DINO, _SIGLIP),
        text=_MOXIN_7B,
        joints=tuple("abcdefg"),
        chunk=8,
        film=False,
        action_slots="zero",
        slots_per_step=None,
    )


def _model(config) -> MoxinVLA:
    """Weights are drawn large enough that every path shows in the output, FiLM and slots too."""
    torch.manual_seed(3)
    model = MoxinVLA(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=parameter.shape[-1] ** -0.5)
            elif not name.endswith(("norm.weight", "norm1.weight", "norm2.weight")):
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def _inputs(config, batch=2, length=7):
    rng = torch.Generator().manual_seed(11)
    side = config.image_size
    return {
        "pixel_values": torch.randn(batch, 12, side, side, generator=rng),
        "input_ids": torch.randint(4, 200, (batch, length), generator=rng),
        "attention_mask": None,
        "proprio": torch.randn(batch, 6, generator=rng),
    }


def test_layout_of_the_released_libero_checkpoints(full_size):
    layout = token_layout(full_size, prompt_length=34)
    assert layout.length == 1 + 512 + 1 + 33 + 56 + 1 == 604
    assert (layout.proprio, layout.prompt) == (513, 514)
    assert (layout.action_start, layout.action_stop) == (546, 602)


def test_full_size_model_has_the_released_tensors(full_size):
    with torch.device("meta"):
        state = {k: tuple(v.shape) for k, v in MoxinVLA(full_size).state_dict().items()}
    expected = {
        "vision_backbone.featurizer.cls_token": (1, 1, 1024),
        "vision_backbone.featurizer.reg_token": (1, 4, 1024),
        "vision_backbone.featurizer.pos_embed": (1, 256, 1024),
        "vision_backbone.featurizer.patch_embed.proj.weight": (1024, 3, 14, 14),
        "vision_backbone.featurizer.blocks.22.ls2.scale_factor": (1024,),
        "vision_backbone.fused_featurizer.pos_embed": (1, 256, 1152),
        "vision_backbone.fused_featurizer.blocks.25.attn.qkv.weight": (3456, 1152),
        "vision_backbone.fused_featurizer.blocks.25.mlp.fc1.weight": (4304, 1152),
        "projector.fc1.weight": (8704, 2176),
        "projector.fc2.weight": (4096, 8704),
        "projector.fc3.weight": (4096, 4096),
        "language_model.model.embed_tokens.weight": (32064, 4096),
        "language_model.model.layers.35.self_attn.k_proj.weight": (1024, 4096),
        "language_model.model.layers.35.mlp.down_proj.weight": (4096, 14336),
        "language_model.model.layers.0.input_layernorm.weight": (4096,),
        "language_model.model.layers.0.post_attention_layernorm.weight": (4096,),
        "language_model.model.norm.weight": (4096,),
        "action_head.model.layer_norm1.weight": (28672,),
        "action_head.model.fc1.weight": (4096, 28672),
        "action_head.model.mlp_resnet_blocks.1.ffn.1.weight": (4096, 4096),
        "action_head.model.fc2.weight": (7, 4096),
        "proprio_projector.fc1.weight": (4096, 7),
    }
    assert {key: state.get(key) for key in expected} == expected
    # The last blocks and final norms are never computed, so they are not there.
    assert not [k for k in state if "blocks.23" in k and "fused" not in k]
    assert not [k for k in state if "fused_featurizer.blocks.26" in k or "lm_head" in k]


def test_trunk_of_moxin_7b_has_its_published_size(full_size):
    with torch.device("meta"):
        trunk = MoxinVLA(full_size).language_model
    count = sum(parameter.numel() for parameter in trunk.parameters())
    lm_head = 32064 * 4096
    assert round((count + lm_head) / 1e9, 2) == 8.11


def test_output_shapes(config):
    output = _model(config)(**_inputs(config))
    assert output.actions.shape == (2, 3, 6)
    assert output.vision_tokens.shape == (2, 2, 4, 16 + 8)
    assert output.projected_tokens.shape == (2, 8, 16)
    assert output.action_hidden.shape == (2, 3, 16)
    assert output.proprio_hidden.shape == (2, 16)


@pytest.mark.parametrize(("attention", "moves"), [("bidirectional", True), ("causal", False)])
def test_first_action_sees_the_last_slot_only_without_a_causal_mask(config, attention, moves):
    config = replace(config, attention=attention)
    model, inputs = _model(config), _inputs(config)
    before = model(**inputs).action_hidden[:, 0]
    with torch.no_grad():
        model.action_slots[-1] += 1.0
    after = model(**inputs).action_hidden[:, 0]
    assert torch.equal(before, after) is not moves


@pytest.mark.parametrize("attention", ["bidirectional", "causal"])
def test_padding_does_not_change_the_answer(config, attention):
    config = replace(config, attention=attention)
    model, inputs = _model(config), _inputs(config, batch=1)
    alone = model(**inputs)
    other = _inputs(config, batch=1, length=10)
    padded = torch.cat([inputs["input_ids"], torch.full((1, 3), config.pad_token_id)], dim=1)
    both = model(
        pixel_values=torch.cat([inputs["pixel_values"], other["pixel_values"]]),
        input_ids=torch.cat([padded, other["input_ids"]]),
        attention_mask=torch.tensor([[True] * 7 + [False] * 3, [True] * 10]),
        proprio=torch.cat([inputs["proprio"], other["proprio"]]),
    )
    torch.testing.assert_close(both.actions[:1], alone.actions, atol=1e-5, rtol=0)
    torch.testing.assert_close(both.actions[1:], model(**other).actions, atol=1e-5, rtol=0)
    torch.testing.assert_close(both.vision_tokens[:1], alone.vision_tokens, atol=1e-5, rtol=0)


def test_pad_id_itself_does_not_matter(config):
    model, inputs = _model(config), _inputs(config, batch=1)
    inputs["attention_mask"] = torch.tensor([[True] * 5 + [False] * 2])
    before = model(**inputs).actions
    inputs["input_ids"][:, 5:] = 9
    assert torch.equal(model(**inputs).actions, before)


@pytest.mark.parametrize("field", ["pixel_values", "input_ids", "proprio"])
def test_every_input_changes_the_actions(config, field):
    model, inputs = _model(config), _inputs(config)
    before = model(**inputs).actions
    inputs[field] = inputs[field].flip(1)
    assert (model(**inputs).actions - before).abs().max() > 1e-3


def test_camera_order_matters(config):
    model, inputs = _model(config), _inputs(config)
    before = model(**inputs).actions
    inputs["pixel_values"] = inputs["pixel_values"].roll(6, dims=1)
    assert (model(**inputs).actions - before).abs().max() > 1e-3


def test_each_tower_gets_its_own_half_of_the_channels(config):
    model, inputs = _model(replace(config, film=False)), _inputs(config)
    before = model(**inputs).vision_tokens
    inputs["pixel_values"][:, 3:6] = 0.0  # first camera, second tower
    changed = (model(**inputs).vision_tokens != before).flatten(2, 2).any(0).any(1)
    assert changed[0].tolist() == [False] * 16 + [True] * 8
    assert not changed[1].any()


def test_language_reaches_the_towers_only_through_film(config):
    for film in (True, False):
        model, inputs = _model(replace(config, film=film)), _inputs(config)
        before = model(**inputs).vision_tokens
        inputs["input_ids"][:, 4] = 201
        assert torch.equal(model(**inputs).vision_tokens, before) is not film


def test_unfitted_film_is_the_plain_tower(config):
    torch.manual_seed(0)
    with_film = MoxinVLA(config).eval()
    without = MoxinVLA(replace(config, film=False)).eval()
    without.load_state_dict(with_film.state_dict(), strict=False)
    inputs = _inputs(config)
    assert torch.equal(without(**inputs).actions, with_film(**inputs).actions)


def test_zero_slots_as_released_need_no_extra_tensor(config):
    config = replace(config, action_slots="zero", slots_per_step=None)
    model = _model(config)
    assert "action_slots" not in model.state_dict()
    assert model(**_inputs(config)).action_hidden.shape == (2, 3, 6 * 16)


def test_every_tensor_is_trained(config):
    model = _model(config)
    model(**_inputs(config)).actions.abs().sum().backward()
    still = [name for name, p in model.named_parameters() if p.grad is None]
    assert still == []
