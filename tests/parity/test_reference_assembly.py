"""Every stage of the model against transformers' and timm's own modules with the same weights."""

from dataclasses import replace

import layouts
import pytest
import torch
from reference_assembly import ReferenceAssembly, build_trunk
from timm.layers import QuickGELU
from transformers import (
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from moxin_vla.policy.moxin.cache import KeyValueCache
from moxin_vla.policy.moxin.decoding import predict
from moxin_vla.policy.moxin.generation import greedy
from moxin_vla.policy.moxin.vit import Block, VisionTower
from moxin_vla.policy.moxin.vlm import VlmConfig

torch.set_num_threads(1)
_TINY = layouts.tiny_config()
_QUICK_CLIP = replace(layouts.CLIP, activation="quick_gelu")

VARIANTS = {
    "mistral": {},
    "llama": {"text": replace(_TINY.text, model_type="llama", num_key_value_heads=4)},
    "other rope and eps": {"text": replace(_TINY.text, rope_theta=500.0, rms_norm_eps=1e-3)},
    "causal": {"attention": "causal"},
    "one camera": {"cameras": ("front",)},
    "three cameras": {"cameras": ("front", "left", "right")},
    "no proprio": {"proprio_names": ()},
    "learned slots": {"action_slots": "learned", "slots_per_step": 1},
    "dino alone": {"towers": (layouts.DINO,)},
    "siglip alone": {"towers": (layouts.SIGLIP,)},
    "clip alone": {"towers": (_QUICK_CLIP,)},
    "dino and clip": {"towers": (layouts.DINO, _QUICK_CLIP)},
}


def _close(found, expected):
    scale = float(expected.abs().max())
    assert float((found - expected).abs().max()) <= 1e-4 * scale


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_stage_agrees_with_the_assembly(variant):
    config = layouts.tiny_config(**VARIANTS[variant])
    model = layouts.random_model(config)
    reference = ReferenceAssembly(model)
    torch.manual_seed(5)
    pixels = torch.randn(1, 3 * len(config.towers) * config.num_images, 28, 28)
    ids = torch.tensor([[1, 20, 30, 40, 9]])
    proprio = torch.randn(1, 6) if config.proprio_dim else None
    with torch.inference_mode():
        output = model(pixels, ids, None, proprio)
        features = reference.features(pixels)
        _close(output.vision_tokens, features)
        projected = reference.project(features)
        _close(output.projected_tokens, projected)
        hidden = reference.action_hidden(projected, ids, proprio)
        _close(output.action_hidden, hidden)
        expected = reference.head(hidden)
        _close(output.actions, expected)
        _close(predict(model, pixels, ids, proprio), expected)


def test_padded_prompts_agree_with_unpadded_ones_of_the_assembly():
    model = layouts.random_model(_TINY)
    reference = ReferenceAssembly(model)
    torch.manual_seed(6)
    pixels, proprio = torch.randn(2, 12, 28, 28), torch.randn(2, 6)
    ids = torch.tensor([[1, 20, 30, 40, 9], [1, 20, 9, 3, 3]])
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]).bool()
    with torch.inference_mode():
        found = model(pixels, ids, mask, proprio).actions
        for row, length in ((0, 5), (1, 3)):
            alone = slice(row, row + 1)
            _close(found[alone], reference(pixels[alone], ids[alone, :length], proprio[alone]))


def _dino_state(tower):
    """Our weights under the names of transformers' DINOv2."""
    ours, theirs = tower.state_dict(), {}
    theirs["embeddings.cls_token"] = ours["cls_token"]
    theirs["embeddings.register_tokens"] = ours["reg_token"]
    zero = torch.zeros(1, 1, layouts.DINO.width)  # the class token has no position here
    theirs["embeddings.position_embeddings"] = torch.cat([zero, ours["pos_embed"]], 1)
    _patches(theirs, ours, "embeddings.patch_embeddings.projection")
    for i in range(layouts.DINO.blocks_used):
        layer, block = f"encoder.layer.{i}", f"blocks.{i}"
        _attention(theirs, ours, f"{layer}.attention", block, ("q_proj", "k_proj", "v_proj"))
        pairs = {
            f"{layer}.norm1": "norm1", f"{layer}.norm2": "norm2",
            f"{layer}.attention.o_proj": "attn.proj",
            f"{layer}.mlp.fc1": "mlp.fc1", f"{layer}.mlp.fc2": "mlp.fc2",
        }  # fmt: skip
        _copy(theirs, ours, block, pairs)
        for scale in (1, 2):
            theirs[f"{layer}.layer_scale{scale}.lambda1"] = ours[f"{block}.ls{scale}.scale_factor"]
    return theirs


def _siglip_state(tower):
    ours, theirs = tower.state_dict(), {}
    theirs["embeddings.position_embedding.weight"] = ours["pos_embed"][0]
    _patches(theirs, ours, "embeddings.patch_embedding")
    for i in range(layouts.SIGLIP.blocks_used):
        layer, block = f"encoder.layers.{i}", f"blocks.{i}"
        _attention(theirs, ours, f"{layer}.self_attn", block, ("q_proj", "k_proj", "v_proj"))
        pairs = {
            f"{layer}.layer_norm1": "norm1", f"{layer}.layer_norm2": "norm2",
            f"{layer}.self_attn.out_proj": "attn.proj",
            f"{layer}.mlp.fc1": "mlp.fc1", f"{layer}.mlp.fc2": "mlp.fc2",
        }  # fmt: skip
        _copy(theirs, ours, block, pairs)
    return theirs


def _patches(theirs, ours, name):
    for kind in ("weight", "bias"):
        theirs[f"{name}.{kind}"] = ours[f"patch_embed.proj.{kind}"]


def _attention(theirs, ours, name, block, parts):
    for kind in ("weight", "bias"):
        for part, tensor in zip(parts, ours[f"{block}.attn.qkv.{kind}"].chunk(3), strict=True):
            theirs[f"{name}.{part}.{kind}"] = tensor


def _copy(theirs, ours, block, pairs):
    for name, own in pairs.items():
        for kind in ("weight", "bias"):
            theirs[f"{name}.{kind}"] = ours[f"{block}.{own}.{kind}"]


def _tower(config):
    torch.manual_seed(4)
    tower = VisionTower(config, [Block(config) for _ in range(config.blocks_used)])
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.normal_(std=0.3)
    return tower.eval()


def _shared(config):
    return {
        "hidden_size": config.width,
        "num_hidden_layers": config.blocks_used,
        "num_attention_heads": config.heads,
        "image_size": config.image_size,
        "patch_size": config.patch_size,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
        "attn_implementation": "eager",
    }


def _load(model, state):
    names = model.state_dict().keys()
    prefix = "vision_model." if any(name.startswith("vision_model.") for name in names) else ""
    missing, unexpected = model.load_state_dict(
        {prefix + key: value for key, value in state.items()}, strict=False
    )
    assert not unexpected, unexpected
    allowed = ("layernorm", "post_layernorm", "head", "mask_token")
    assert all(
        key.removeprefix(prefix).split(".")[-2:][0] in allowed
        or "head" in key
        or "mask_token" in key
        for key in missing
    ), missing
    return model.eval()


def test_dino_tower_agrees_with_transformers():
    config = layouts.DINO
    tower = _tower(config)
    settings = Dinov2WithRegistersConfig(
        **_shared(config), mlp_ratio=config.mlp_dim // config.width, num_register_tokens=4
    )
    reference = _load(Dinov2WithRegistersModel(settings), _dino_state(tower))
    images = torch.randn(2, 3, 28, 28)
    with torch.inference_mode():
        states = reference(images, output_hidden_states=True).hidden_states
        _close(tower(images), states[-1][:, 5:])


def test_siglip_tower_agrees_with_transformers():
    config = layouts.SIGLIP
    tower = _tower(config)
    settings = SiglipVisionConfig(
        **_shared(config), intermediate_size=config.mlp_dim, vision_use_head=False
    )
    reference = _load(SiglipVisionModel(settings), _siglip_state(tower))
    images = torch.randn(2, 3, 28, 28)
    with torch.inference_mode():
        states = reference(images, output_hidden_states=True).hidden_states
        _close(tower(images), states[-1])


def test_greedy_answers_are_transformers_own():
    text = _TINY.text
    model = layouts.random_model(VlmConfig("tiny", _TINY.towers, text))
    state = {
        key.removeprefix("language_model."): value
        for key, value in model.state_dict().items()
        if key.startswith("language_model.")
    }
    reference = build_trunk(text)
    reference.load_state_dict(state)
    torch.manual_seed(8)
    pixels, ids = torch.randn(1, 6, 28, 28), torch.tensor([[1, 20, 30, 40]])
    with torch.inference_mode():
        embedded = model.language_model.model.embed_tokens(ids)
        vision = model.projector(model.vision_backbone(pixels)).flatten(1, 2)
        inputs = torch.cat([embedded[:, :1], vision, embedded[:, 1:]], dim=1)
        expected = reference.generate(
            inputs_embeds=inputs,
            max_new_tokens=8,
            do_sample=False,
            eos_token_id=-1,
            pad_token_id=0,
        )
        cache = KeyValueCache(text, 1, 64, pixels)
        found = greedy(model.language_model, model.prefill(pixels, ids, cache), cache, 8)
    assert found.tolist() == expected.tolist()


def _quick_gelu(reference):
    for tower in reference.towers:
        for block in tower.blocks:
            block.mlp.act = QuickGELU()


def _one_block_more(reference):
    for tower in reference.towers:
        tower.blocks.append(tower.blocks[-1])


def _causal(reference):
    reference.config = replace(reference.config, attention="causal")


def _other_eps(reference):
    for layer in reference.trunk.model.layers:
        layer.input_layernorm.variance_epsilon = 1e-2


@pytest.mark.parametrize("change", [_quick_gelu, _one_block_more, _causal, _other_eps])
def test_the_comparison_can_fail(change):
    model = layouts.random_model(_TINY)
    reference = ReferenceAssembly(model)
    change(reference)
    pixels, ids, proprio = torch.randn(1, 12, 28, 28), torch.tensor([[1, 5, 9]]), torch.randn(1, 6)
    with torch.inference_mode(), pytest.raises(AssertionError):
        _close(predict(model, pixels, ids, proprio), reference(pixels, ids, proprio))
