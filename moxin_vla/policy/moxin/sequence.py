"""The token sequence: where things are, and what to do about padded prompts."""

from dataclasses import dataclass

import torch
from torch import Tensor

from moxin_vla.policy.moxin.config import MoxinConfig


@dataclass(frozen=True, slots=True)
class TokenLayout:
    """Where things are in the sequence.

    [BOS | vision | proprio | diffusion timestep | prompt 2..L | A slots | </s>]; proprio and
    timestep only where the model has them.

    Attributes:
        length: Tokens S.
        proprio: Index of the proprio token, where there is one.
        prompt: Index of the second prompt token.
        action_start: First action hidden state, at EMPTY: one before the first slot.
        action_stop: One past the last action hidden state.
    """

    length: int
    proprio: int
    prompt: int
    action_start: int
    action_stop: int


def token_layout(config: MoxinConfig, prompt_length: int) -> TokenLayout:
    """Return the layout for prompts of `prompt_length` tokens, BOS and EMPTY included."""
    before_prompt = config.vision_tokens_end  # P
    start = before_prompt + prompt_length - 1
    slots = config.num_action_slots
    return TokenLayout(
        length=start + 1 + slots + 1,
        proprio=config.num_patches + 1,
        prompt=before_prompt + 1,
        action_start=start,
        action_stop=start + slots,
    )


def pads_after_bos(ids: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
    """Move right padding to just after BOS, so that EMPTY always touches the first action slot."""
    length = ids.shape[1]
    pads = length - keep.sum(1, keepdim=True)  # (B, 1)
    source = torch.arange(1, length, device=ids.device)[None] - pads  # (B, L - 1)
    keep = torch.cat([keep[:, :1], source >= 1], dim=1)
    source = torch.where(source >= 1, source, source + length - 1)
    return torch.cat([ids[:, :1], ids.gather(1, source)], dim=1), keep


def language_mean(text: Tensor, stop: Tensor, keep: Tensor | None) -> Tensor:
    """Mean of all non-action input embeddings (BOS, prompt, EMPTY, </s>), shape (B, D).

    Padding does not count.
    """
    if keep is None:
        return (text.sum(1) + stop) / (text.shape[1] + 1)
    weights = keep[..., None].to(text.dtype)
    return ((text * weights).sum(1) + stop) / (weights.sum(1) + 1)


def sequence_positions(
    layout: TokenLayout, sequence: Tensor, keep: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Return rotary positions as if nothing were padded, and which tokens are real."""
    if keep is None:
        return torch.arange(layout.length, device=sequence.device), None
    real = torch.ones(sequence.shape[:2], dtype=torch.bool, device=sequence.device)
    real[:, layout.prompt : layout.prompt + keep.shape[1] - 1] = keep[:, 1:]
    return (real.long().cumsum(1) - 1).clamp(min=0), real
