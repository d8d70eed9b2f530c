"""The same model from other people's modules: transformers' trunks, timm's towers, plain heads.

An independent reference for tests/parity, and the eager baseline of policy_latency.py: like the
released code it runs the cameras one after the other, every block of the towers, and the output
vocabulary over every position.
"""

from functools import partial

import torch
from timm.layers import QuickGELU
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from moxin_vla.policy.moxin.architecture import TextConfig, VisionTowerConfig
from moxin_vla.policy.moxin.model import MoxinVLA

_PLAIN = ("projector.", "proprio_projector.", "action_head.", "action_slots")
_KINDS = {"llama": (LlamaConfig, LlamaForCausalLM), "mistral": (MistralConfig, MistralForCausalLM)}


def build_trunk(text: TextConfig) -> nn.Module:
    """Return transformers' model of a trunk, with eager attention."""
    config_class, model_class = _KINDS[text.model_type]
    extra = {"sliding_window": None} if text.model_type == "mistral" else {}
    config = config_class(
        vocab_size=text.vocab_size,
        hidden_size=text.hidden_size,
        intermediate_size=text.intermediate_size,
        num_hidden_layers=text.num_hidden_layers,
        num_attention_heads=text.num_attention_heads,
        num_key_value_heads=text.num_key_value_heads,
        rms_norm_eps=text.rms_norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": text.rope_theta},
        max_position_embeddings=4096,
        attn_implementation="eager",
        **extra,
    )
    return model_class(config).eval()


def build_tower(tower: VisionTowerConfig) -> VisionTransformer:
    """Return timm's model of a tower, every block of it."""
    return VisionTransformer(
        img_size=tower.image_size,
        patch_size=tower.patch_size,
        embed_dim=tower.width,
        depth=tower.depth,
        num_heads=tower.heads,
        mlp_ratio=tower.mlp_dim / tower.width,
        class_token=tower.num_prefix_tokens > 0,
        reg_tokens=max(0, tower.num_prefix_tokens - 1),
        no_embed_class=not tower.prefix_positions,
        init_values=1e-5 if tower.layer_scale else None,
        pre_norm=tower.norm_pre,
        norm_layer=partial(nn.LayerNorm, eps=tower.norm_eps),
        act_layer=QuickGELU if tower.activation == "quick_gelu" else nn.GELU,
        num_classes=0,
        global_pool="",
        dynamic_img_size=False,
    ).eval()


class ReferenceAssembly(nn.Module):
    """L1 policy without FiLM, from a model of ours.

    Args:
        model: Gives config and weights.
    """

    def __init__(self, model: MoxinVLA) -> None:
        super().__init__()
        config, state = model.config, model.state_dict()
        assert config.head == "l1" and not config.film
        self.config = config
        self.trunk = build_trunk(config.text)
        self.towers = nn.ModuleList(build_tower(tower) for tower in config.towers)
        self._fill(state)
        self.state = {
            name: tensor
            for name, tensor in state.items()
            if name.startswith(
                ("projector.", "proprio_projector.", "action_head.", "action_slots")
            )
        }

    def _fill(self, state: dict[str, Tensor]) -> None:
        prefix = "language_model."
        trunk = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        missing, unexpected = self.trunk.load_state_dict(trunk, strict=False)
        assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
        names = ("featurizer", "fused_featurizer")
        for name, tower in zip(names, self.towers, strict=False):
            prefix = f"vision_backbone.{name}."
            mine = {
                k.removeprefix(prefix).replace("scale_factor", "gamma"): v
                for k, v in state.items()
                if k.startswith(prefix)
            }
            missing, unexpected = tower.load_state_dict(mine, strict=False)
            last = f"blocks.{len(tower.blocks) - 1}."
            assert not unexpected, unexpected
            assert all(key.startswith((last, "norm.")) for key in missing), missing

    def features(self, pixel_values: Tensor) -> Tensor:
        """Return fused features (B, N, patches, D_v): camera by camera, tower by tower."""
        images = []
        for image in pixel_values.split(3 * len(self.towers), dim=1):
            parts = [
                tower.get_intermediate_layers(part, n=[len(tower.blocks) - 2])[0]
                for tower, part in zip(self.towers, image.split(3, dim=1), strict=True)
            ]
            images.append(torch.cat(parts, dim=2))
        return torch.stack(images, dim=1)

    def project(self, features: Tensor) -> Tensor:
        """Return vision tokens in trunk channels, (B, N * patches, D)."""
        x = self._linear("projector.fc1", features.flatten(1, 2))
        x = self._linear("projector.fc2", functional.gelu(x))
        return self._linear("projector.fc3", functional.gelu(x)) if len(self.towers) == 2 else x

    def action_hidden(self, vision: Tensor, ids: Tensor, proprio: Tensor | None) -> Tensor:
        """Return hidden states at the shifted action slice, (B, H, slots * D)."""
        config, embed = self.config, self.trunk.get_input_embeddings()
        text, stop = embed(ids), embed(ids.new_full((1, 1), config.eos_token_id))
        parts = [text[:, :1], vision.to(text.dtype)]
        if proprio is not None:
            x = self._linear("proprio_projector.fc1", proprio)
            parts.append(self._linear("proprio_projector.fc2", functional.gelu(x))[:, None])
        slots = text.new_zeros(1, config.num_action_slots, text.shape[2])
        if "action_slots" in self.state:
            slots = self.state["action_slots"][None].to(text.dtype)
        parts = [part.to(text.dtype) for part in parts]
        sequence = torch.cat([*parts, text[:, 1:], slots, stop], dim=1)
        length = sequence.shape[1]
        mask = sequence.new_zeros(1, 1, length, length)
        if config.attention == "causal":
            mask = mask.masked_fill(
                torch.ones_like(mask).triu(1).bool(), torch.finfo(mask.dtype).min
            )
        output = self.trunk(
            inputs_embeds=sequence, attention_mask=mask, output_hidden_states=True, use_cache=False
        )
        start = length - 2 - config.num_action_slots
        hidden = output.hidden_states[-1][:, start : start + config.num_action_slots]
        return hidden.reshape(1, config.chunk, -1)

    def head(self, hidden: Tensor) -> Tensor:
        """Return normalised actions (B, H, action_dim)."""
        x = functional.relu(
            self._linear("action_head.model.fc1", self._norm("layer_norm1", hidden))
        )
        for index in (0, 1):
            block = f"mlp_resnet_blocks.{index}.ffn"
            inner = self._linear(f"action_head.model.{block}.1", self._norm(f"{block}.0", x))
            x = x + functional.relu(inner)
        return self._linear("action_head.model.fc2", self._norm("layer_norm2", x))

    def forward(self, pixel_values: Tensor, ids: Tensor, proprio: Tensor | None) -> Tensor:
        """Return normalised actions (1, H, action_dim)."""
        vision = self.project(self.features(pixel_values))
        return self.head(self.action_hidden(vision, ids, proprio))

    def _linear(self, name: str, x: Tensor) -> Tensor:
        weight = self.state[f"{name}.weight"]
        return functional.linear(x.to(weight.dtype), weight, self.state.get(f"{name}.bias"))

    def _norm(self, name: str, x: Tensor) -> Tensor:
        weight = self.state[f"action_head.model.{name}.weight"]
        bias = self.state[f"action_head.model.{name}.bias"]
        return functional.layer_norm(x.to(weight.dtype), weight.shape, weight, bias)
