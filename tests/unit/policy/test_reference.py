"""The layers against independent arithmetic: torch's encoder layer, or loops in float64."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from moxin_vla.policy.moxin.architecture import TextConfig, VisionTowerConfig
from moxin_vla.policy.moxin.attention import attention
from moxin_vla.policy.moxin.film import FilmBlock
from moxin_vla.policy.moxin.trunk import Trunk
from moxin_vla.policy.moxin.vit import Block, PatchEmbed

_TOWER = VisionTowerConfig("t", 24, 8, 12, 1, 3, 20, 0, False, 1)
_TEXT = TextConfig("mistral", 40, 16, 24, 1, 4, 2, 1e-5, 100.0)


def _normal(module: nn.Module) -> nn.Module:
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.5)
    return module.double().eval()


def _encoder_layer_like(block: Block) -> nn.TransformerEncoderLayer:
    layer = nn.TransformerEncoderLayer(
        12, 3, 20, 0.0, "gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
    ).double()
    names = {
        "self_attn.in_proj_": "attn.qkv.",
        "self_attn.out_proj.": "attn.proj.",
        "linear1.": "mlp.fc1.",
        "linear2.": "mlp.fc2.",
        "norm1.": "norm1.",
        "norm2.": "norm2.",
    }
    layer.load_state_dict(
        {
            a + kind: block.state_dict()[b + kind]
            for a, b in names.items()
            for kind in ("weight", "bias")
        }
    )
    return layer


def test_vision_block_is_a_pre_norm_encoder_layer():
    block = _normal(Block(_TOWER))
    x = torch.randn(2, 9, 12, dtype=torch.float64)
    torch.testing.assert_close(block(x), _encoder_layer_like(block)(x))


def test_layer_scale_scales_both_branches():
    block = _normal(Block(replace(_TOWER, layer_scale=True)))
    x = torch.randn(2, 9, 12, dtype=torch.float64)
    middle = x + block.ls1.scale_factor * block.attn(block.norm1(x))
    expected = middle + block.ls2.scale_factor * block.mlp(block.norm2(middle))
    torch.testing.assert_close(block(x), expected)


def test_film_acts_between_attention_and_mlp():
    block = _normal(FilmBlock(_TOWER, condition_width=5))
    x = torch.randn(2, 9, 12, dtype=torch.float64)
    language = torch.randn(2, 5, dtype=torch.float64)
    expected = []
    for image, words in zip(x, language, strict=True):
        gamma, beta = block.scale(words), block.shift(words)
        middle = (image + block.attn(block.norm1(image[None]))[0]) * (1 + gamma) + beta
        expected.append(middle + block.mlp(block.norm2(middle)))
    torch.testing.assert_close(block(x, language), torch.stack(expected))


@pytest.mark.parametrize("side", [24, 27])
def test_patch_embedding_is_its_convolution(side):
    embed = _normal(PatchEmbed(replace(_TOWER, image_size=side)))
    images = torch.randn(2, 3, side, side, dtype=torch.float64)
    expected = embed.proj(images).flatten(2).transpose(1, 2)
    torch.testing.assert_close(embed(images), expected)


def _rms(x, weight):
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-5) * weight


def _turned(vector, position):
    """RoPE on one head: channels i and i + half form a complex number turned by its own angle."""
    half = len(vector) // 2
    number = torch.complex(vector[:half], vector[half:])
    angles = torch.tensor([position * 100.0 ** (-i / half) for i in range(half)])
    number = number * torch.polar(torch.ones(half, dtype=torch.float64), angles.double())
    return torch.cat([number.real, number.imag])


def _layer_by_loops(state, x, causal):
    """One Mistral layer (grouped-query attention, SwiGLU) and the final norm over x (S, 16)."""

    def weight(name):
        return state[f"layers.0.{name}.weight"]

    length, normed = len(x), _rms(x, weight("input_layernorm"))
    mixed = torch.zeros_like(x)
    for head in range(4):
        own, shared = slice(4 * head, 4 * head + 4), slice(4 * (head // 2), 4 * (head // 2) + 4)
        q = [_turned(weight("self_attn.q_proj")[own] @ normed[t], t) for t in range(length)]
        k = [_turned(weight("self_attn.k_proj")[shared] @ normed[t], t) for t in range(length)]
        v = [weight("self_attn.v_proj")[shared] @ normed[t] for t in range(length)]
        for t in range(length):
            seen = range(t + 1 if causal else length)
            scores = [math.exp(float(q[t] @ k[s]) / 2.0) for s in seen]
            for s in seen:
                mixed[t, own] += scores[s] / sum(scores) * v[s]
    x = x + mixed @ weight("self_attn.o_proj").T
    normed = _rms(x, weight("post_attention_layernorm"))
    gate = normed @ weight("mlp.gate_proj").T
    up = normed @ weight("mlp.up_proj").T
    x = x + (gate * torch.sigmoid(gate) * up) @ weight("mlp.down_proj").T
    return _rms(x, state["norm.weight"])


@pytest.mark.parametrize("causal", [False, True])
def test_trunk_is_a_mistral_layer(causal):
    trunk = _normal(Trunk(_TEXT))
    x = torch.randn(6, 16, dtype=torch.float64)
    found = trunk(x[None], torch.arange(6), causal=causal)[0]
    expected = _layer_by_loops(trunk.state_dict(), x, causal)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)


def test_bfloat16_attention_agrees_with_the_fused_kernel():
    torch.manual_seed(2)
    q, k, v = (torch.randn(2, heads, 9, 8) for heads in (4, 2, 2))
    mask = torch.ones(2, 1, 1, 9, dtype=torch.bool)
    mask[0, ..., -3:] = False
    found = attention(q.bfloat16(), k.bfloat16(), v.bfloat16(), mask)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), attention(q, k, v, mask), atol=0.03, rtol=0.03)
