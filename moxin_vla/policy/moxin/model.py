"""Moxin-VLA: pixels, prompt and proprio to a normalised action chunk in one forward pass."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from moxin_vla.policy.moxin.config import MoxinConfig
from moxin_vla.policy.moxin.film import FilmBlock
from moxin_vla.policy.moxin.heads import L1ActionHead
from moxin_vla.policy.moxin.projector import (
    ActionPrefixProjector,
    ProprioProjector,
    VisionProjector,
)
from moxin_vla.policy.moxin.trunk import LanguageModel
from moxin_vla.policy.moxin.vit import Block, VisionTower

TOWER_NAMES = ("featurizer", "fused_featurizer")  # DINO-like, SigLIP-like


@dataclass(frozen=True, slots=True)
class MoxinOutput:
    """What one forward pass computed.

    Attributes:
        actions: Normalised actions, shape (B, H, action_dim).
        vision_tokens: Fused tower features before the projector, shape (B, N, patches, D_v).
        projected_tokens: Vision tokens in trunk channels, shape (B, N * patches, D).
        action_hidden: Trunk output at the shifted action slice, shape (B, H, step_slots * D).
        proprio_hidden: Trunk output at the proprio token, shape (B, D).
    """

    actions: Tensor
    vision_tokens: Tensor
    projected_tokens: Tensor
    action_hidden: Tensor
    proprio_hidden: Tensor


@dataclass(frozen=True, slots=True)
class ActionPrefix:
    """Actions that will be played whatever is predicted.

    Attributes:
        actions: Normalised, shape (B, H, action_dim); rows from `steps` on do not matter.
        steps: How many are committed, shape (B,).
    """

    actions: Tensor
    steps: Tensor


@dataclass(frozen=True, slots=True)
class TokenLayout:
    """Where things are in the sequence [BOS | vision | proprio | prompt 2..L | A slots | </s>].

    Attributes:
        length: Tokens S.
        proprio: Index of the proprio token.
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
    before_prompt = config.num_patches + 1  # P
    start = before_prompt + prompt_length - 1
    slots = config.num_action_slots
    return TokenLayout(
        length=start + 1 + slots + 1,
        proprio=before_prompt,
        prompt=before_prompt + 1,
        action_start=start,
        action_stop=start + slots,
    )


class VisionBackbone(nn.Module):
    """One or two towers over every camera, fused on channels."""

    def __init__(self, config: MoxinConfig) -> None:
        super().__init__()
        self.num_images = config.num_images
        for name, tower in zip(TOWER_NAMES, config.towers, strict=False):
            blocks = [
                FilmBlock(tower, config.text.hidden_size) if config.film else Block(tower)
                for _ in range(tower.blocks_used)
            ]
            self.add_module(name, VisionTower(tower, blocks))

    def forward(self, pixel_values: Tensor, condition: Tensor | None) -> Tensor:
        """Map pixels (B, N * towers * 3, h, w) to features (B, N, patches, D_v).

        All cameras go through a tower at once.
        """
        images = pixel_values.unflatten(1, (self.num_images, -1, 3))  # (B, N, towers, 3, h, w)
        if condition is not None:
            condition = condition.repeat_interleave(self.num_images, dim=0)
        features = [
            tower(images[:, :, i].flatten(0, 1), condition)
            for i, tower in enumerate(self.children())
        ]
        return torch.cat(features, dim=-1).unflatten(0, (-1, self.num_images))


class MoxinVLA(nn.Module):
    """The whole model. Parameter names are those of the released checkpoints."""

    def __init__(self, config: MoxinConfig) -> None:
        super().__init__()
        self.config = config
        hidden = config.text.hidden_size
        self.vision_backbone = VisionBackbone(config)
        self.projector = VisionProjector(config.vision_width, hidden)
        self.language_model = LanguageModel(config.text)
        self.action_head = L1ActionHead(hidden, config.step_slots, config.action_dim)
        self.proprio_projector = ProprioProjector(config.proprio_dim, hidden)
        if config.action_slots == "learned":
            self.action_slots = nn.Parameter(torch.zeros(config.num_action_slots, hidden))
        if config.action_prefix:
            values = config.action_dim // config.step_slots
            self.action_prefix_projector = ActionPrefixProjector(values, hidden)

    def forward(
        self,
        pixel_values: Tensor,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        proprio: Tensor,
        prefix: ActionPrefix | None = None,
    ) -> MoxinOutput:
        """Predict a chunk.

        Args:
            pixel_values: Normalised pixels, cameras in config order, shape
                (B, N * towers * 3, h, w).
            input_ids: Prompt ids with BOS first and EMPTY last, padded on the right, shape (B, L).
            attention_mask: True for real tokens, shape (B, L); None, which is faster, if no
                prompt is padded.
            proprio: Normalised proprio, shape (B, proprio_dim).
            prefix: Committed actions; only for models with `action_prefix`.

        Returns:
            Actions and the hidden states that training looks at.
        """
        if attention_mask is not None:
            input_ids, attention_mask = _pads_after_bos(input_ids, attention_mask.bool())
        text = self._embed(input_ids)  # (B, L, D)
        stop = self._embed(input_ids.new_full((1,), self.config.eos_token_id))  # (1, D)
        condition = _language_mean(text, stop, attention_mask) if self.config.film else None
        vision = self.vision_backbone(pixel_values, condition)  # (B, N, patches, D_v)
        projected = self.projector(vision).flatten(1, 2)  # (B, N * patches, D)
        slots = self._slots(text, prefix)
        sequence = self._sequence(text, projected, self.proprio_projector(proprio), slots, stop)
        layout = token_layout(self.config, input_ids.shape[1])
        positions, keep = _positions(layout, sequence, attention_mask)
        hidden = self.language_model.model(
            sequence, positions, keep, causal=self.config.attention == "causal"
        )
        action_hidden = hidden[:, layout.action_start : layout.action_stop]  # (B, A, D)
        action_hidden = action_hidden.reshape(hidden.shape[0], self.config.chunk, -1)
        return MoxinOutput(
            actions=self.action_head(action_hidden),
            vision_tokens=vision,
            projected_tokens=projected,
            action_hidden=action_hidden,
            proprio_hidden=hidden[:, layout.proprio],
        )

    def _embed(self, ids: Tensor) -> Tensor:
        return self.language_model.model.embed_tokens(ids)

    def _slots(self, text: Tensor, prefix: ActionPrefix | None) -> Tensor:
        """Return the action placeholders, shape (B, A, D)."""
        batch, width = text.shape[0], text.shape[2]
        if self.config.action_slots == "learned":
            slots = self.action_slots.expand(batch, -1, -1).to(text.dtype)
        else:
            slots = text.new_zeros(batch, self.config.num_action_slots, width)
        if prefix is None:
            return slots
        per_slot = prefix.actions.reshape(batch, self.config.num_action_slots, -1)
        step = torch.arange(self.config.num_action_slots, device=text.device)
        known = step // self.config.step_slots < prefix.steps[:, None]  # (B, A)
        embedded = self.action_prefix_projector(per_slot.to(text.dtype))
        return slots + embedded * known[..., None]

    def _sequence(
        self, text: Tensor, vision: Tensor, proprio: Tensor, slots: Tensor, stop: Tensor
    ) -> Tensor:
        return torch.cat(
            [
                text[:, :1],
                vision.to(text.dtype),
                proprio[:, None].to(text.dtype),
                text[:, 1:],
                slots,
                stop.expand(text.shape[0], 1, -1),
            ],
            dim=1,
        )  # (B, S, D)


def _pads_after_bos(ids: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
    """Move right padding to just after BOS, so that EMPTY always touches the first action slot."""
    length = ids.shape[1]
    pads = length - keep.sum(1, keepdim=True)  # (B, 1)
    source = torch.arange(1, length, device=ids.device)[None] - pads  # (B, L - 1)
    keep = torch.cat([keep[:, :1], source >= 1], dim=1)
    source = torch.where(source >= 1, source, source + length - 1)
    return torch.cat([ids[:, :1], ids.gather(1, source)], dim=1), keep


def _language_mean(text: Tensor, stop: Tensor, keep: Tensor | None) -> Tensor:
    """Mean of all non-action input embeddings (BOS, prompt, EMPTY, </s>), shape (B, D).

    Padding does not count.
    """
    if keep is None:
        return (text.sum(1) + stop) / (text.shape[1] + 1)
    weights = keep[..., None].to(text.dtype)
    return ((text * weights).sum(1) + stop) / (weights.sum(1) + 1)


def _positions(
    layout: TokenLayout, sequence: Tensor, keep: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Return rotary positions as if nothing were padded, and which tokens are real."""
    if keep is None:
        return torch.arange(layout.length, device=sequence.device), None
    real = torch.ones(sequence.shape[:2], dtype=torch.bool, device=sequence.device)
    real[:, layout.prompt : layout.prompt + keep.shape[1] - 1] = keep[:, 1:]
    return (real.long().cumsum(1) - 1).clamp(min=0), real
