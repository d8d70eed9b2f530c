"""What the model is taught: the expert's chunk, and, as a cheap teacher, where the named object
is.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from moxin_vla.policy.moxin.config import MoxinConfig
from moxin_vla.policy.moxin.training.data import Batch

# Scene coordinates are scaled to about [-1, 1] for the auxiliary regression.
_CENTRE_M = np.array([0.21, 0.0, 0.04], np.float32)
_SCALE_M = np.array([0.08, 0.18, 0.06], np.float32)
VECTOR_SIZE = 6  # named object xyz, goal xyz


@dataclass(frozen=True, slots=True)
class LossWeights:
    """Weights of the terms; the chunk's own weight is 1."""

    patch: float = 0.10
    offset: float = 0.20
    vector: float = 0.20


def relative_chunk(
    chunk: NDArray[np.float32], proprio: NDArray[np.float32], absolute_dims: tuple[int, ...]
) -> NDArray[np.float32]:
    """Express absolute targets (n, H, D) as offsets from the proprio (n, D); absolute dims stay as
    they are.
    """
    offset = chunk - proprio[:, None]
    for dim in absolute_dims:
        offset[..., dim] = chunk[..., dim]
    return offset


def scene_vector(batch: Batch) -> NDArray[np.float32]:
    """Return the regression target, shape (B, 6), without unit."""
    named = (batch.named - _CENTRE_M) / _SCALE_M
    goal = (batch.goal - _CENTRE_M) / _SCALE_M
    return np.concatenate([named, goal], axis=1).astype(np.float32)


def patch_targets(pixels: Tensor, grid: int) -> tuple[Tensor, Tensor, Tensor]:
    """Turn image positions into patch targets.

    Args:
        pixels: (u, v) in [0, 1] or -1 if not in view, shape (B, N, 2).
        grid: Patches along one side.

    Returns:
        In view (B, N) bool, patch index (B, N), and position inside the patch in [-1, 1], shape
        (B, N, 2).
    """
    visible = pixels[..., 0] >= 0
    scaled = pixels.clamp(0, 1 - 1e-6) * grid
    cell = scaled.floor()
    return visible, (cell[..., 1] * grid + cell[..., 0]).long(), (scaled - cell) * 2 - 1


def auxiliary_losses(
    logits: Tensor,
    offsets: Tensor,
    vectors: Tensor,
    pixels: Tensor,
    vector: Tensor,
    config: MoxinConfig,
) -> dict[str, Tensor]:
    """Return the teacher's terms.

    Args:
        logits: Named-object score per patch, shape (B, N, patches).
        offsets: Position inside each patch, shape (B, N, patches, 2).
        vectors: Regressed scene vector, shape (..., B, 6).
        pixels: Where the object is in each image, shape (B, N, 2).
        vector: Scene vector, shape (B, 6).
        config: For the patch grid.
    """
    visible, index, inside = patch_targets(pixels, config.towers[0].grid)
    loss = functional.cross_entropy(logits.flatten(0, 1), index.flatten(), reduction="none")
    picked = offsets.gather(2, index[..., None, None].expand(-1, -1, 1, 2)).squeeze(2)  # (B, N, 2)
    weight = visible.float()
    count = weight.sum().clamp(min=1)
    return {
        "patch": (loss * weight.flatten()).sum() / count,
        "offset": ((picked - inside).abs().mean(-1) * weight).sum() / count,
        "vector": (vectors - vector).abs().mean(),
    }


def located(logits: Tensor, pixels: Tensor, grid: int) -> float:
    """Share of visible objects whose patch has the highest score: a measure to watch, not to
    train.
    """
    visible, index, _ = patch_targets(pixels, grid)
    hit = (logits.argmax(-1) == index) & visible
    return float(hit.sum() / visible.sum().clamp(min=1))


def as_tensor(array: NDArray) -> Tensor:
    """Move a batch array to torch without a copy where possible."""
    return torch.from_numpy(np.ascontiguousarray(array))
