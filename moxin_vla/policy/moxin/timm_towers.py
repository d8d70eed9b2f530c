"""Vision towers from timm's own weight files, for native checkpoints that leave them out."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from moxin_vla.core.errors import CheckpointError, listed
from moxin_vla.policy.moxin.architecture import VisionTowerConfig
from moxin_vla.policy.moxin.backbone import TOWER_NAMES
from moxin_vla.policy.moxin.hub import find_checkpoint
from moxin_vla.policy.moxin.layout import timm_name
from moxin_vla.policy.moxin.weights import SINGLE, Stored, Weights, open_safetensors


def open_towers(sources: tuple[str, ...], towers: tuple[VisionTowerConfig, ...]) -> Weights:
    """Look at the towers' files and name them as in a released checkpoint.

    Args:
        sources: A safetensors file, a directory or a Hugging Face id for each tower.
        towers: The towers they belong to.

    Raises:
        CheckpointError: There is not one source per tower.
    """
    if len(sources) != len(towers):
        raise CheckpointError(
            "The checkpoint leaves out its vision towers. Name one file or Hugging Face id for "
            f"each of: {listed(f'timm/{tower.model_id}' for tower in towers)}. "
            f"Got: {listed(sources)}"
        )
    weights: Weights = {}
    for name, source, tower in zip(TOWER_NAMES, sources, towers, strict=False):
        path = Path(source)
        file = path if path.is_file() else find_checkpoint(source) / SINGLE
        for key, stored in open_safetensors(file).items():
            if key == "pos_embed":
                stored = _resampled(stored, tower)
            weights[f"vision_backbone.{name}.{timm_name(key)}"] = stored
    return weights


def _resampled(stored: Stored, tower: VisionTowerConfig) -> Stored:
    """Fit positions of another resolution to the tower's grid, as timm does."""
    if stored.shape[1] == tower.num_positions:
        return stored
    prefix = tower.num_prefix_tokens if tower.prefix_positions else 0

    def read() -> Tensor:
        return resample_positions(stored.read(), tower.grid, prefix)

    shape = (1, tower.num_positions, tower.width)
    return replace(stored, shape=shape, read=read, mapped=False)


def resample_positions(positions: Tensor, grid: int, prefix: int) -> Tensor:
    """Resample (1, prefix + n * n, d) to (1, prefix + grid * grid, d): bicubic, antialiased."""
    side = int((positions.shape[1] - prefix) ** 0.5)
    square = positions[:, prefix:].float().unflatten(1, (side, side)).permute(0, 3, 1, 2)
    resized = functional.interpolate(square, (grid, grid), mode="bicubic", antialias=True)
    patches = resized.permute(0, 2, 3, 1).flatten(1, 2).to(positions.dtype)
    return torch.cat([positions[:, :prefix], patches], dim=1)
