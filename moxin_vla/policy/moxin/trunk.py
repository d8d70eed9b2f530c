"""The Llama / Mistral trunk: RMSNorm, RoPE, grouped-query attention, SwiGLU."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from moxin_vla.policy.moxin.attention import attention
from moxin_vla.policy.moxin.config import TextConfig


class RMSNorm(nn.Module):
    """Root-mean-square norm, computed in float32."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., D) to (..., D)."""
        return functional.rms_norm(x, self.weight.shape, self.weight, self.eps)


def rotary_angles(positions: Tensor, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """Return cos and sin of the rotary angles for positions (..., S).

    Both are float32, of shape (..., S, head_dim).
    """
    exponents = torch.arange(0, head_dim, 2, device=positions.device).float() / head_dim
    angles = positions.float()[..., None] * theta**-exponents
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply RoPE to (B, heads, S, head_dim), in the half-split layout of Hugging Face weights."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


class TrunkAttention(nn.Module):
    """Grouped-query attention with rotary positions."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        kv_width = config.num_key_value_heads * config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, kv_width, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, kv_width, bias=False)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)

    def forward(
        self, x: Tensor, rope: tuple[Tensor, Tensor], mask: Tensor | None, causal: bool
    ) -> Tensor:
        """Map (B, S, D) to (B, S, D)."""
        q, k, v = (
            layer(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )  # (B, heads, S, head_dim)
        q, k = rotate(q, *rope), rotate(k, *rope)
        mixed = attention(q, k, v, mask, causal and mask is None)
        return self.o_proj(mixed.transpose(1, 2).flatten(2))


class TrunkMlp(nn.Module):
    """SwiGLU."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., D) to (..., D)."""
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


class TrunkLayer(nn.Module):
    """One decoder layer."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.self_attn = TrunkAttention(config)
        self.mlp = TrunkMlp(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self, x: Tensor, rope: tuple[Tensor, Tensor], mask: Tensor | None, causal: bool
    ) -> Tensor:
        """Map (B, S, D) to (B, S, D)."""
        x = x + self.self_attn(self.input_layernorm(x), rope, mask, causal)
        return x + self.mlp(self.post_attention_layernorm(x))


class Trunk(nn.Module):
    """Embeddings in, hidden states after the final norm out; there is no output vocabulary."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = _embedding(config)
        self.layers = nn.ModuleList(TrunkLayer(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self, x: Tensor, positions: Tensor, keep: Tensor | None = None, causal: bool = False
    ) -> Tensor:
        """Run every layer.

        Args:
            x: Input embeddings, shape (B, S, D).
            positions: Rotary positions, shape (S,) or (B, S).
            keep: True where a token is real, shape (B, S); None if all are.
            causal: True to look only backwards.

        Returns:
            Hidden states after the final norm, shape (B, S, D).
        """
        cos, sin = rotary_angles(positions, self.config.head_dim, self.config.rope_theta)
        if positions.ndim == 2:
            cos, sin = cos[:, None], sin[:, None]  # (B, 1, S, head_dim)
        mask = _attention_mask(keep, causal)
        rope = cos.to(x.dtype), sin.to(x.dtype)
        for layer in self.layers:
            x = layer(x, rope, mask, causal)
        return self.norm(x)


def _embedding(config: TextConfig) -> nn.Embedding:
    """Return the default embedding, but leave the meta device alone, where loading builds models.

    Drawing normal numbers there makes torch import its compiler, which takes seconds.
    """
    weight = torch.empty(config.vocab_size, config.hidden_size)
    if not weight.is_meta:
        nn.init.normal_(weight)
    return nn.Embedding.from_pretrained(weight, freeze=False)


def _attention_mask(keep: Tensor | None, causal: bool) -> Tensor | None:
    """Return True where attention is allowed, (B, 1, 1 or S, S); None if every key is real."""
    if keep is None:
        return None
    mask = keep[:, None, None, :]
    if causal:
        length = keep.shape[1]
        below = torch.ones(length, length, dtype=torch.bool, device=keep.device).tril()
        mask = mask & below
    return mask


class LanguageModel(nn.Module):
    """Holds the trunk under the released name `language_model.model`; has no `lm_head`."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.model = Trunk(config)
