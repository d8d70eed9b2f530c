"""FiLM: the language modulates every vision block (OpenVLA-OFT+, arXiv 2502.19645, IV-C)."""

from torch import Tensor, nn

from moxin_vla.policy.moxin.architecture import VisionTowerConfig
from moxin_vla.policy.moxin.vit import Block


class FilmBlock(Block):
    """A ViT block whose stream is scaled and shifted by the language, between attention and MLP.

    Both maps start at zero, so an unfitted block is the plain block.
    """

    def __init__(self, config: VisionTowerConfig, condition_width: int) -> None:
        super().__init__(config)
        self.scale = nn.Linear(condition_width, config.width)
        self.shift = nn.Linear(condition_width, config.width)
        for layer in (self.scale, self.shift):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Map (B, T, d) to (B, T, d) under a condition of shape (B, D_llm)."""
        x = x + self.ls1(self.attn(self.norm1(x)))
        scale, shift = self.scale(condition), self.shift(condition)
        x = x * (1 + scale[:, None]) + shift[:, None]
        return x + self.ls2(self.mlp(self.norm2(x)))
