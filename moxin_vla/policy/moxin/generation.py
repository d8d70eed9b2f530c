"""Text, token by token: greedy or sampled from the nucleus (arXiv 1904.09751)."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from moxin_vla.core.errors import PolicyError
from moxin_vla.policy.moxin.cache import KeyValueCache
from moxin_vla.policy.moxin.trunk import LanguageModel


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to choose tokens.

    Attributes:
        max_new_tokens: Longest answer.
        temperature: 0 for the likeliest token each time.
        top_p: Smallest share of the probability to sample from.
        seed: Of the samples.

    Raises:
        PolicyError: A value is out of range.
    """

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1 or self.temperature < 0 or not 0 < self.top_p <= 1:
            raise PolicyError(
                "Sampling needs max_new_tokens >= 1, temperature >= 0 and 0 < top_p <= 1. "
                f"Got: {self.max_new_tokens}, {self.temperature}, {self.top_p}"
            )


def next_hidden(model: LanguageModel, ids: Tensor, cache: KeyValueCache) -> Tensor:
    """Run the trunk on one token (B, 1) behind the cache; returns (B, 1, D)."""
    position = torch.tensor([cache.length], device=ids.device)
    return model.model(model.model.embed_tokens(ids), position, causal=True, cache=cache)


def greedy(model: LanguageModel, hidden: Tensor, cache: KeyValueCache, tokens: int) -> Tensor:
    """Return the likeliest `tokens` ids after `hidden` (B, 1, D), shape (B, tokens)."""
    chosen = [model.lm_head(hidden).argmax(-1)]  # (B, 1)
    while len(chosen) < tokens:
        chosen.append(model.lm_head(next_hidden(model, chosen[-1], cache)).argmax(-1))
    return torch.cat(chosen, dim=1)


def generate(
    model: LanguageModel, hidden: Tensor, cache: KeyValueCache, sampling: Sampling, eos: int
) -> Iterator[int]:
    """Yield ids after `hidden` (1, 1, D) until the end of the sequence, the limit, or no room."""
    generator = torch.Generator().manual_seed(sampling.seed)
    for count in range(1, sampling.max_new_tokens + 1):
        token = choose(model.lm_head(hidden)[0, 0].float().cpu(), sampling, generator)
        if token == eos:
            return
        yield token
        if count == sampling.max_new_tokens or cache.length == cache.capacity:
            return
        hidden = next_hidden(model, torch.tensor([[token]], device=hidden.device), cache)


def choose(logits: Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """Choose a token by its logits, shape (vocabulary,)."""
    if sampling.temperature == 0:
        return int(logits.argmax())
    shares, order = (logits / sampling.temperature).softmax(-1).sort(descending=True)
    outside = shares.cumsum(0) - shares >= sampling.top_p  # the likeliest is always inside
    shares = shares.masked_fill(outside, 0.0)
    return int(order[torch.multinomial(shares, 1, generator=generator)])
