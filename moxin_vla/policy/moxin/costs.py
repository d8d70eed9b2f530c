"""What one chunk costs at least, counted from the config: operations and bytes."""

from dataclasses import dataclass

from moxin_vla.policy.moxin.architecture import TextConfig, VisionTowerConfig
from moxin_vla.policy.moxin.config import MoxinConfig
from moxin_vla.policy.moxin.sequence import token_layout


@dataclass(frozen=True, slots=True)
class Costs:
    """One forward pass over one observation.

    Attributes:
        tokens: Length of the trunk's sequence S.
        vision_flop: Towers, in floating-point operations (a multiply-add is two).
        trunk_flop: Layers of the trunk.
        other_flop: Projectors and head.
        parameters: Weights that are read, embeddings left out.
    """

    tokens: int
    vision_flop: float
    trunk_flop: float
    other_flop: float
    parameters: int

    @property
    def flop(self) -> float:
        """All operations."""
        return self.vision_flop + self.trunk_flop + self.other_flop


def costs(config: MoxinConfig, prompt_length: int) -> Costs:
    """Count a chunk's costs for prompts of `prompt_length` tokens, BOS and EMPTY included."""
    tokens = token_layout(config, prompt_length).length
    hidden, width = config.text.hidden_size, config.vision_width
    fused = len(config.towers) == 2
    middle = 4 * width if fused else hidden
    projector = width * middle + middle * hidden + (hidden * hidden if fused else 0)
    head = 0
    if config.head != "discrete":
        head = config.step_slots * hidden * hidden + 2 * hidden**2 + hidden * config.action_dim
    proprio = (config.proprio_dim + hidden) * hidden if config.proprio_dim else 0
    towers = [_tower(tower) for tower in config.towers]
    trunk_flop, trunk_parameters = _trunk(config.text, tokens)
    steps = config.diffusion_steps if config.head == "diffusion" else 1
    return Costs(
        tokens=tokens,
        vision_flop=config.num_images * sum(flop for flop, _ in towers),
        trunk_flop=steps * trunk_flop,
        other_flop=2.0 * (config.num_patches * projector + proprio + steps * config.chunk * head),
        parameters=sum(n for _, n in towers) + trunk_parameters + projector + proprio + head,
    )


def _tower(tower: VisionTowerConfig) -> tuple[float, int]:
    tokens = tower.num_patches + tower.num_prefix_tokens
    block = 4 * tower.width**2 + 2 * tower.width * tower.mlp_dim
    patches = 3 * tower.patch_size**2 * tower.width
    attention = 4 * tokens**2 * tower.width  # scores and mixing
    flop = tower.blocks_used * (2.0 * tokens * block + attention)
    return flop + 2.0 * tower.num_patches * patches, tower.blocks_used * block + patches


def _trunk(text: TextConfig, tokens: int) -> tuple[float, int]:
    keys = text.num_key_value_heads * text.head_dim
    layer = 2 * text.hidden_size**2 + 2 * text.hidden_size * keys
    layer += 3 * text.hidden_size * text.intermediate_size
    attention = 4 * tokens**2 * text.hidden_size
    layers = text.num_hidden_layers
    return layers * (2.0 * tokens * layer + attention), layers * layer
