"""Moxin-VLA: pixels, prompt and proprio to a normalised action chunk in one forward pass."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from moxin_vla.policy.moxin.backbone import TOWER_NAMES, VisionBackbone
from moxin_vla.policy.moxin.cache import KeyValueCache
from moxin_vla.policy.moxin.config import MoxinConfig
from moxin_vla.policy.moxin.heads import DiffusionActionHead, L1ActionHead
from moxin_vla.policy.moxin.projector import (
    ActionPrefixProjector,
    ProprioProjector,
    VisionProjector,
)
from moxin_vla.policy.moxin.sequence import (
    TokenLayout,
    language_mean,
    pads_after_bos,
    sequence_positions,
    token_layout,
)
from moxin_vla.policy.moxin.trunk import LanguageModel

__all__ = ["TOWER_NAMES", "ActionPrefix", "MoxinOutput", "MoxinVLA", "TokenLayout", "token_layout"]


@dataclass(frozen=True, slots=True)
class MoxinOutput:
    """What one forward pass computed.

    Attributes:
        actions: What the head makes of `action_hidden`: normalised actions (L1) or noise
            (diffusion), shape (B, H, action_dim); None for discrete tokens.
        vision_tokens: Fused tower features before the projector, shape (B, N, patches, D_v).
        projected_tokens: Vision tokens in trunk channels, shape (B, N * patches, D).
        action_hidden: Trunk output at the shifted action slice, shape (B, H, step_slots * D).
        proprio_hidden: Trunk output at the proprio token, shape (B, D); None if it was not asked
            for or there is none.
    """

    actions: Tensor | None
    vision_tokens: Tensor
    projected_tokens: Tensor
    action_hidden: Tensor
    proprio_hidden: Tensor | None


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
class Context:
    """Everything that does not depend on the action slots, embedded.

    Attributes:
        text: Prompt embeddings, BOS first, shape (B, L, D).
        keep: True for real tokens, shape (B, L); None if all are.
        vision_tokens: Fused tower features, shape (B, N, patches, D_v).
        projected: Vision tokens in trunk channels, shape (B, N * patches, D).
        proprio: Proprio token, shape (B, 1, D); None without proprio.
        stop: Embedding of the end-of-sequence token, shape (1, D).
    """

    text: Tensor
    keep: Tensor | None
    vision_tokens: Tensor
    projected: Tensor
    proprio: Tensor | None
    stop: Tensor


class MoxinVLA(nn.Module):
    """The whole model. Parameter names are those of the released checkpoints."""

    def __init__(self, config: MoxinConfig) -> None:
        super().__init__()
        self.config = config
        hidden = config.text.hidden_size
        self.vision_backbone = VisionBackbone(
            config.towers, config.num_images, hidden if config.film else None
        )
        self.projector = VisionProjector(config.vision_width, hidden, len(config.towers) == 2)
        self.language_model = LanguageModel(config.text, lm_head=config.head == "discrete")
        if config.head == "l1":
            self.action_head = L1ActionHead(hidden, config.step_slots, config.action_dim)
        if config.head == "diffusion":
            self.action_head = DiffusionActionHead(hidden, config.step_slots, config.action_dim)
            self.noisy_action_projector = ProprioProjector(1, hidden)
        if config.proprio_dim:
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
        proprio: Tensor | None,
        prefix: ActionPrefix | None = None,
    ) -> MoxinOutput:
        """Predict a chunk; of diffusion models, only one step is taken: see `decoding.predict`.

        Args:
            pixel_values: Normalised pixels, cameras in config order, shape
                (B, N * towers * 3, h, w).
            input_ids: Prompt ids with BOS first and EMPTY last, padded on the right, shape (B, L).
            attention_mask: True for real tokens, shape (B, L); None, which is faster, if no
                prompt is padded.
            proprio: Normalised proprio, shape (B, proprio_dim); None for models without.
            prefix: Committed actions; only for models with `action_prefix`.

        Returns:
            Actions and the hidden states that training looks at.
        """
        context = self.embed(pixel_values, input_ids, attention_mask, proprio)
        return self.decode(context, self.slots(context, prefix), full=True)

    def embed(
        self,
        pixel_values: Tensor,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        proprio: Tensor | None,
    ) -> Context:
        """Embed everything but the action slots; arguments as in `forward`."""
        if attention_mask is not None:
            input_ids, attention_mask = pads_after_bos(input_ids, attention_mask.bool())
        text = self.embed_ids(input_ids)  # (B, L, D)
        stop = self.embed_ids(input_ids.new_full((1,), self.config.eos_token_id))  # (1, D)
        condition = language_mean(text, stop, attention_mask) if self.config.film else None
        vision = self.vision_backbone(pixel_values, condition)  # (B, N, patches, D_v)
        token = None
        if self.config.proprio_dim:
            assert proprio is not None
            dtype = self.proprio_projector.fc1.weight.dtype
            token = self.proprio_projector(proprio.to(dtype)).to(text.dtype)[:, None]
        projected = self.projector(vision).flatten(1, 2).to(text.dtype)  # (B, N * patches, D)
        return Context(text, attention_mask, vision, projected, token, stop)

    def embed_ids(self, ids: Tensor) -> Tensor:
        """Embed token ids (...) to (..., D)."""
        return self.language_model.model.embed_tokens(ids)

    def slots(self, context: Context, prefix: ActionPrefix | None) -> Tensor:
        """Return the action placeholders, shape (B, A, D)."""
        text, config = context.text, self.config
        batch, width = text.shape[0], text.shape[2]
        if config.action_slots == "learned":
            slots = self.action_slots.expand(batch, -1, -1).to(text.dtype)
        else:
            slots = text.new_zeros(batch, config.num_action_slots, width)
        if prefix is None:
            return slots
        per_slot = prefix.actions.reshape(batch, config.num_action_slots, -1)
        step = torch.arange(config.num_action_slots, device=text.device)
        known = step // config.step_slots < prefix.steps[:, None]  # (B, A)
        embedded = self.action_prefix_projector(per_slot.to(text.dtype))
        return slots + embedded * known[..., None]

    def decode(
        self, context: Context, slots: Tensor, timestep: Tensor | None = None, full: bool = False
    ) -> MoxinOutput:
        """Run trunk and head.

        Args:
            context: What `embed` returned.
            slots: Action placeholders, shape (B, A, D).
            timestep: Token of the diffusion timestep, shape (B, D).
            full: True to compute the hidden states that only training needs.
        """
        config, batch = self.config, slots.shape[0]
        if config.head == "diffusion" and timestep is None:
            timestep = slots.new_zeros(batch, config.text.hidden_size)
        sequence = self._sequence(context, timestep, slots, context.stop.expand(batch, 1, -1))
        layout = token_layout(config, context.text.shape[1])
        positions, keep = sequence_positions(layout, sequence, context.keep)
        rows = slice(layout.action_start, layout.action_stop)
        causal = config.attention == "causal"
        hidden = self.language_model.model(
            sequence, positions, keep, causal, rows=None if full else rows
        )
        of_actions = hidden[:, rows] if full else hidden  # (B, A, D)
        action_hidden = of_actions.reshape(batch, config.chunk, -1)
        has_proprio = full and config.proprio_dim > 0
        return MoxinOutput(
            actions=self._head(action_hidden),
            vision_tokens=context.vision_tokens,
            projected_tokens=context.projected,
            action_hidden=action_hidden,
            proprio_hidden=hidden[:, layout.proprio] if has_proprio else None,
        )

    def prefill(self, context: Context, cache: KeyValueCache) -> Tensor:
        """Run the trunk over vision and prompt alone, for decoding token by token.

        Returns:
            Hidden state of the last prompt token, shape (B, 1, D).
        """
        sequence = self._sequence(context, None)
        positions = torch.arange(sequence.shape[1], device=sequence.device)
        last = slice(sequence.shape[1] - 1, sequence.shape[1])
        return self.language_model.model(
            sequence, positions, None, causal=True, cache=cache, rows=last
        )

    def _sequence(self, context: Context, timestep: Tensor | None, *after: Tensor) -> Tensor:
        """Lay out the sequence, shape (B, S, D)."""
        parts = [context.text[:, :1], context.projected]
        if context.proprio is not None:
            parts.append(context.proprio)
        if timestep is not None:
            parts.append(timestep[:, None].to(context.text.dtype))
        return torch.cat([*parts, context.text[:, 1:], *after], dim=1)

    def _head(self, action_hidden: Tensor) -> Tensor | None:
        if self.config.head == "discrete":
            return None
        dtype = next(self.action_head.parameters()).dtype
        return self.action_head(action_hidden.to(dtype))
