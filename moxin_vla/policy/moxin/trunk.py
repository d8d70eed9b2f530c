"""The Llama / Mistral trunk: RMSNorm, RoPE, grouped-query attention, SwiGLU."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from moxin_vla.policy.moxin.architecture import TextConfig
from moxin_vla.policy.moxin.attention import attention
from moxin_vla.policy.moxin.cache import KeyValueCache


class RMSNorm(nn.Module):
    """Root-mean-square norm, computed in float32."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., D) to (..., D)."""
        return functional.rms_norm(x, self.weight.shape, self.weight, self.eps)


@dataclass(frozen=True, slots=True)
class Step:
    """What every layer of one pass shares.

    Attributes:
        cos: Of the rotary angles, broadcastable to (B, heads, S, head_dim).
        sin: Likewise.
        mask: True where attention is allowed, (B or 1, 1, S or 1, keys); None for everywhere.
        causal: True to look only backwards, where `mask` is None.
        cache: Keys and values of former tokens.
    """

    cos: Tensor
    sin: Tensor
    mask: Tensor | None
    causal: bool
    cache: KeyValueCache | None = None

    def rows(self, rows: slice) -> "Step":
        """Return the same for queries at some positions only; keys stay everywhere."""
        mask = self.mask
        if mask is None and self.causal:
            length = self.cos.shape[-2]
            mask = torch.ones(length, length, dtype=torch.bool, device=self.cos.device).tril()
            mask = mask[None, None]
        if mask is not None and mask.shape[2] > 1:
            mask = mask[:, :, rows]
        return Step(self.cos[..., rows, :], self.sin[..., rows, :], mask, False)


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

    def __init__(self, config: TextConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.head_dim = layer, config.head_dim
        kv_width = config.num_key_value_heads * config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, kv_width, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, kv_width, bias=False)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor, step: Step, rows: slice | None) -> Tensor:
        """Map (B, S, D) to (B, S, D), or to the rows asked for."""
        asking, query = (x, step) if rows is None else (x[:, rows], step.rows(rows))
        q = rotate(self._heads(self.q_proj, asking), query.cos, query.sin)
        k = rotate(self._heads(self.k_proj, x), step.cos, step.sin)
        v = self._heads(self.v_proj, x)
        if step.cache is not None:
            k, v = step.cache.extend(self.layer, k, v)
        mixed = attention(q, k, v, query.mask, query.causal and query.mask is None)
        return self.o_proj(mixed.transpose(1, 2).flatten(2))

    def _heads(self, projection: nn.Linear, x: Tensor) -> Tensor:
        return projection(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)


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

    def __init__(self, config: TextConfig, layer: int) -> None:
        super().__init__()
        self.self_attn = TrunkAttention(config, layer)
        self.mlp = TrunkMlp(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor, step: Step, rows: slice | None = None) -> Tensor:
        """Map (B, S, D) to (B, S, D), or to the rows asked for."""
        mixed = self.self_attn(self.input_layernorm(x), step, rows)
        x = (x if rows is None else x[:, rows]) + mixed
        return x + self.mlp(self.post_attention_layernorm(x))


class Trunk(nn.Module):
    """Embeddings in, hidden states after the final norm out."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = _embedding(config)
        self.layers = nn.ModuleList(
            TrunkLayer(config, layer) for layer in range(config.num_hidden_layers)
        )
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self,
        x: Tensor,
        positions: Tensor,
        keep: Tensor | None = None,
        causal: bool = False,
        cache: KeyValueCache | None = None,
        rows: slice | None = None,
    ) -> Tensor:
        """Run every layer.

        Args:
            x: Input embeddings, shape (B, S, D).
            positions: Rotary positions, shape (S,) or (B, S).
            keep: True where a token is real, shape (B, S); None if all are.
            causal: True to look only backwards. Tokens that follow a cache come one by one.
            cache: Keys and values of the tokens before these; extended by these.
            rows: Positions whose hidden states are wanted: the last layer computes no others.

        Returns:
            Hidden states after the final norm, shape (B, S, D), or of the rows asked for.
        """
        assert cache is None or cache.length == 0 or x.shape[1] == 1
        cos, sin = rotary_angles(positions, self.config.head_dim, self.config.rope_theta)
        if positions.ndim == 2:
            cos, sin = cos[:, None], sin[:, None]  # (B, 1, S, head_dim)
        causal = causal and x.shape[1] > 1
        step = Step(cos.to(x.dtype), sin.to(x.dtype), _attention_mask(keep, causal), causal, cache)
        for layer in self.layers[:-1]:
            x = layer(x, step)
        x = self.layers[-1](x, step, rows)
        if cache is not None:
            cache.advance(positions.shape[-1])
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
    """Holds the trunk under the released name `language_model.model`.

    The output vocabulary `lm_head` is left out where nothing is read from it: with it, a pass of
    the 7 B shape over 604 tokens costs 0.16 TFLOP more.
    """

    def __init__(self, config: TextConfig, lm_head: bool = False) -> None:
        super().__init__()
        self.model = Trunk(config)
        if lm_head:
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
