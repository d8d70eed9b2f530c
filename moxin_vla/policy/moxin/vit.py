"""Pre-norm vision transformers with the parameter names of the released checkpoints.

Those are timm's, with `gamma` renamed to `scale_factor`.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from moxin_vla.policy.moxin.architecture import VisionTowerConfig
from moxin_vla.policy.moxin.attention import attention


class PatchEmbed(nn.Module):
    """Embed patches; stored as a convolution, computed as one matrix product."""

    def __init__(self, config: VisionTowerConfig) -> None:
        super().__init__()
        self.patch_size, self.grid = config.patch_size, config.grid
        self.proj = nn.Conv2d(
            3, config.width, config.patch_size, config.patch_size, bias=not config.norm_pre
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return patches (B, grid^2, d) of images (B, 3, h, w), row by row."""
        p, g = self.patch_size, self.grid
        images = images[:, :, : g * p, : g * p]
        patches = images.unflatten(2, (g, p)).unflatten(4, (g, p))  # (B, 3, g, p, g, p)
        patches = patches.permute(0, 2, 4, 1, 3, 5).reshape(images.shape[0], g * g, 3 * p * p)
        return functional.linear(patches, self.proj.weight.flatten(1), self.proj.bias)


class LayerScale(nn.Module):
    """A learned scale per channel on a residual branch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale_factor = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` scaled."""
        return x * self.scale_factor


class SelfAttention(nn.Module):
    """Full self-attention with one product for query, key and value."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, d) to (B, T, d)."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(attention(q, k, v).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two layers with the exact (erf) GELU, or CLIP's approximation."""

    def __init__(self, config: VisionTowerConfig) -> None:
        super().__init__()
        self.quick = config.activation == "quick_gelu"
        self.fc1 = nn.Linear(config.width, config.mlp_dim)
        self.fc2 = nn.Linear(config.mlp_dim, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., d) to (..., d)."""
        x = self.fc1(x)
        return self.fc2(x * torch.sigmoid(1.702 * x) if self.quick else functional.gelu(x))


class Block(nn.Module):
    """Attention and MLP with pre-norm residuals."""

    def __init__(self, config: VisionTowerConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.attn = SelfAttention(config.width, config.heads)
        self.ls1 = LayerScale(config.width) if config.layer_scale else nn.Identity()
        self.norm2 = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.mlp = Mlp(config)
        self.ls2 = LayerScale(config.width) if config.layer_scale else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Map (B, T, d) to (B, T, d); a plain block does not look at the condition."""
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class VisionTower(nn.Module):
    """Images to patch features.

    The output is the last used block's, without prefix tokens and without a final norm.
    """

    def __init__(self, config: VisionTowerConfig, blocks: list[nn.Module]) -> None:
        super().__init__()
        self.num_prefix_tokens = config.num_prefix_tokens
        self.prefix_positions = config.prefix_positions
        self.patch_embed = PatchEmbed(config)
        self.pos_embed = nn.Parameter(torch.zeros(1, config.num_positions, config.width))
        if config.num_prefix_tokens:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        if config.num_prefix_tokens > 1:
            self.reg_token = nn.Parameter(
                torch.zeros(1, config.num_prefix_tokens - 1, config.width)
            )
        if config.norm_pre:
            self.norm_pre = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.blocks = nn.ModuleList(blocks)

    def forward(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return patch features.

        Args:
            images: Normalised pixels, shape (B, 3, h, w).
            condition: Language for FiLM, shape (B, D_llm); None without FiLM.

        Returns:
            Features of shape (B, patches, d).
        """
        x = self.patch_embed(images)
        if not self.prefix_positions:
            x = x + self.pos_embed
        x = self._with_prefix(x)
        if self.prefix_positions:
            x = x + self.pos_embed
        if hasattr(self, "norm_pre"):
            x = self.norm_pre(x)
        for block in self.blocks:
            x = block(x, condition)
        return x[:, self.num_prefix_tokens :]

    def _with_prefix(self, x: Tensor) -> Tensor:
        if self.num_prefix_tokens == 0:
            return x
        tokens = [self.cls_token]
        if self.num_prefix_tokens > 1:
            tokens.append(self.reg_token)
        prefix = torch.cat(tokens, dim=1).expand(x.shape[0], -1, -1)
        return torch.cat([prefix.to(x.dtype), x], dim=1)
