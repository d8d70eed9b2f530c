"""What a checkpoint's model looks like; one code path from a few million parameters to 7 B."""

from dataclasses import dataclass
from typing import Literal

from moxin_vla.core.embodiment import ActionSpace
from moxin_vla.core.errors import CheckpointError, listed

Attention = Literal["bidirectional", "causal"]
NormType = Literal["bounds", "bounds_q99"]


@dataclass(frozen=True, slots=True)
class VisionTowerConfig:
    """One pre-norm ViT.

    Attributes:
        model_id: timm id, or a free name for towers that timm does not have.
        image_size: Side of the square input image, in pixels.
        patch_size: Side of a patch, in pixels.
        width: Channels d.
        depth: Number of blocks in the checkpoint's tower.
        heads: Attention heads.
        mlp_dim: Hidden channels of the MLP.
        num_prefix_tokens: Tokens in front of the patches: 0, or 1 class token and registers.
        layer_scale: True if each residual branch has a learned scale.
        blocks_used: Blocks that are computed; the output is the last one's, without a final norm.
    """

    model_id: str
    image_size: int
    patch_size: int
    width: int
    depth: int
    heads: int
    mlp_dim: int
    num_prefix_tokens: int
    layer_scale: bool
    blocks_used: int

    def __post_init__(self) -> None:
        if self.image_size % self.patch_size or self.width % self.heads:
            raise CheckpointError(
                f"Vision tower '{self.model_id}': image_size must be a multiple of patch_size "
                f"and width of heads. Got: {self.image_size}, {self.patch_size}, {self.width}, "
                f"{self.heads}"
            )
        if not 0 < self.blocks_used <= self.depth:
            raise CheckpointError(
                f"Vision tower '{self.model_id}': blocks_used must be in 1..{self.depth}. "
                f"Got: {self.blocks_used}"
            )

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.image_size // self.patch_size

    @property
    def num_patches(self) -> int:
        """Patches per image."""
        return self.grid**2


@dataclass(frozen=True, slots=True)
class TextConfig:
    """The causal-LM trunk (Llama or Mistral: the same layers with different numbers)."""

    model_type: Literal["llama", "mistral"]
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0

    def __post_init__(self) -> None:
        if self.model_type not in ("llama", "mistral"):
            raise CheckpointError(
                f"Unknown text_config.model_type '{self.model_type}'. Choose from: llama, mistral"
            )
        if (
            self.hidden_size % self.num_attention_heads
            or self.num_attention_heads % self.num_key_value_heads
        ):
            raise CheckpointError(
                f"text_config: hidden_size {self.hidden_size}, heads {self.num_attention_heads} "
                f"and key-value heads {self.num_key_value_heads} do not divide evenly."
            )

    @property
    def head_dim(self) -> int:
        """Channels per attention head."""
        return self.hidden_size // self.num_attention_heads


@dataclass(frozen=True, slots=True)
class MoxinConfig:
    """Everything that shapes the model and its input and output.

    Attributes:
        name: Shown in reports and diagnostics.
        towers: One or two vision towers, fused on channels: DINO-like, then SigLIP-like.
        text: The trunk.
        cameras: Camera names in the order the model sees them.
        joints: Joint names in the order of proprio and actions.
        chunk: Prediction horizon H, in control steps.
        control_rate_hz: Rate of the steps, in [Hz].
        action_space: How actions are expressed; `joint_delta` is the offset from the
            observation's proprio.
        absolute_dims: Action dims that stay absolute under `joint_delta` (the gripper).
        norm_type: Statistics that scale proprio and actions to [-1, 1].
        film: True if every vision block is modulated by the language (OpenVLA-OFT+).
        attention: Mask of the trunk.
        action_slots: `zero` as released, or `learned`: one trained embedding per slot, for trunks
            too shallow to tell slots apart by RoPE alone.
        slots_per_step: Placeholders per control step; None for one per action dim, as released.
        action_prefix: True if the first slots can carry committed actions (training-time RTC,
            arXiv 2512.05964, in the form for parallel decoding).
        statistics_key: Entry of dataset_statistics.json to use; None if there is only one.
        empty_token_id: Overrides the id that is looked up for the piece '▁'.
        llm_max_length: Longest prompt, in tokens.
    """

    name: str
    towers: tuple[VisionTowerConfig, ...]
    text: TextConfig
    cameras: tuple[str, ...]
    joints: tuple[str, ...]
    chunk: int
    control_rate_hz: float
    action_space: ActionSpace
    absolute_dims: tuple[int, ...] = ()
    norm_type: NormType = "bounds_q99"
    film: bool = False
    attention: Attention = "bidirectional"
    action_slots: Literal["zero", "learned"] = "zero"
    slots_per_step: int | None = None
    action_prefix: bool = False
    statistics_key: str | None = None
    empty_token_id: int | None = None
    bos_token_id: int = 1
    eos_token_id: int = 2
    pad_token_id: int = 32000
    llm_max_length: int = 2048

    def __post_init__(self) -> None:
        if not 1 <= len(self.towers) <= 2:
            raise CheckpointError(f"A model has 1 or 2 vision towers. Got: {len(self.towers)}")
        if len({(t.image_size, t.num_patches) for t in self.towers}) != 1:
            raise CheckpointError("Both vision towers must have the same image size and patches.")
        if not self.cameras or not self.joints or self.chunk < 1:
            raise CheckpointError(
                "config.json: cameras and joints must not be empty and chunk must be at least 1. "
                f"Got: {self.cameras}, {self.joints}, {self.chunk}"
            )
        if any(not 0 <= dim < len(self.joints) for dim in self.absolute_dims):
            raise CheckpointError(
                f"config.json: absolute_dims must be in 0..{len(self.joints) - 1}. "
                f"Got: {list(self.absolute_dims)}"
            )
        _choose("attention", self.attention, ("bidirectional", "causal"))
        _choose("norm_type", self.norm_type, ("bounds", "bounds_q99"))
        _choose("action_slots", self.action_slots, ("zero", "learned"))

    @property
    def action_dim(self) -> int:
        """Values per action."""
        return len(self.joints)

    @property
    def proprio_dim(self) -> int:
        """Values of the proprio."""
        return len(self.joints)

    @property
    def num_images(self) -> int:
        """Cameras N."""
        return len(self.cameras)

    @property
    def image_size(self) -> int:
        """Side of the square input images, in pixels."""
        return self.towers[0].image_size

    @property
    def num_patches(self) -> int:
        """Vision tokens of all images."""
        return self.num_images * self.towers[0].num_patches

    @property
    def vision_width(self) -> int:
        """Channels of the fused towers."""
        return sum(tower.width for tower in self.towers)

    @property
    def num_action_slots(self) -> int:
        """Placeholders A = chunk * slots_per_step."""
        return self.chunk * self.step_slots

    @property
    def step_slots(self) -> int:
        """Placeholders per control step."""
        return self.slots_per_step or self.action_dim


def _choose(field_name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise CheckpointError(
            f"Unknown {field_name} '{value}' in config.json. Choose from: {listed(choices)}"
        )
