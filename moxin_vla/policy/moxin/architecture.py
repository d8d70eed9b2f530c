"""The shapes of towers and trunk, which every model of the family is built from."""

from dataclasses import dataclass
from typing import Literal

from moxin_vla.core.errors import CheckpointError


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
        prefix_positions: True if `pos_embed` covers the prefix tokens too (CLIP, ImageNet ViTs).
        norm_pre: True for a norm before the first block, and patches without bias (CLIP).
        norm_eps: Of the layer norms.
        activation: GELU of the MLP: exact, or CLIP's x * sigmoid(1.702 x).
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
    prefix_positions: bool = False
    norm_pre: bool = False
    activation: Literal["gelu", "quick_gelu"] = "gelu"
    norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        if self.image_size < self.patch_size or self.width % self.heads:
            raise CheckpointError(
                f"Vision tower '{self.model_id}': image_size must be at least patch_size and "
                f"width a multiple of heads. Got: {self.image_size}, {self.patch_size}, "
                f"{self.width}, {self.heads}"
            )
        if not 0 < self.blocks_used <= self.depth:
            raise CheckpointError(
                f"Vision tower '{self.model_id}': blocks_used must be in 1..{self.depth}. "
                f"Got: {self.blocks_used}"
            )

    @property
    def grid(self) -> int:
        """Patches along one side; a rest of pixels that fills none is left out."""
        return self.image_size // self.patch_size

    @property
    def num_patches(self) -> int:
        """Patches per image."""
        return self.grid**2

    @property
    def num_positions(self) -> int:
        """Rows of `pos_embed`."""
        return self.num_patches + (self.num_prefix_tokens if self.prefix_positions else 0)


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
