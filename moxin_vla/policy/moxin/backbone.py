"""Eyes: one or two vision towers over every camera."""

import torch
from torch import Tensor, nn

from moxin_vla.policy.moxin.architecture import VisionTowerConfig
from moxin_vla.policy.moxin.film import FilmBlock
from moxin_vla.policy.moxin.vit import Block, VisionTower

TOWER_NAMES = ("featurizer", "fused_featurizer")  # DINO-like, SigLIP-like


class VisionBackbone(nn.Module):
    """One or two towers over every camera, fused on channels.

    Args:
        towers: DINO-like, then SigLIP-like; or one alone.
        num_images: Cameras N.
        film_width: Channels of the language that modulates the blocks; None without FiLM.
    """

    def __init__(
        self,
        towers: tuple[VisionTowerConfig, ...],
        num_images: int = 1,
        film_width: int | None = None,
    ) -> None:
        super().__init__()
        self.num_images = num_images
        for name, tower in zip(TOWER_NAMES, towers, strict=False):
            blocks = [
                Block(tower) if film_width is None else FilmBlock(tower, film_width)
                for _ in range(tower.blocks_used)
            ]
            self.add_module(name, VisionTower(tower, blocks))

    def forward(self, pixel_values: Tensor, condition: Tensor | None = None) -> Tensor:
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
