"""From camera images to pixel values.

Every image is normalised once per tower; cameras follow each other on channels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from moxin_vla.core.errors import CheckpointError, ObservationError, listed
from moxin_vla.policy.moxin.config import MoxinConfig

# As stored in the released `preprocessor_config.json`, rounded to bf16: DINO, then SigLIP.
_DINO = {"mean": [0.484375, 0.455078125, 0.40625], "std": [0.228515625, 0.2236328125, 0.224609375]}
_SIGLIP = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}


def default_preprocessor(config: MoxinConfig) -> dict[str, Any]:
    """Return the content of `preprocessor_config.json` for a model trained here."""
    return {
        "image_resize_strategy": "resize-naive",
        "input_sizes": [[3, t.image_size, t.image_size] for t in config.towers],
        "tvf_normalize_params": [_DINO, _SIGLIP][: len(config.towers)],
        "center_crop": False,
        "jpeg_round_trip": False,
    }


@dataclass(frozen=True, slots=True)
class Preprocessor:
    """Normalises images for a model.

    Attributes:
        config: For cameras and image size.
        mean: Channel means, shape (1, 1, 3 * towers, 1, 1).
        std: Channel deviations, same shape.
    """

    config: MoxinConfig
    mean: Tensor
    std: Tensor

    def stack(self, images: Mapping[str, NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """Bring the model's cameras into its order, shape (N, h, w, 3).

        Raises:
            ObservationError: A camera is missing or an image has the wrong size.
        """
        side = self.config.image_size
        for camera in self.config.cameras:
            if camera not in images:
                raise ObservationError(
                    f"The policy needs camera '{camera}'. The observation has: {listed(images)}"
                )
            if images[camera].shape != (side, side, 3):
                raise ObservationError(
                    f"Image '{camera}' must be {side}x{side} RGB. Got: {images[camera].shape}"
                )
        return np.stack([images[camera] for camera in self.config.cameras])

    def pixel_values(self, images: NDArray[np.uint8]) -> Tensor:
        """Map images (B, N, h, w, 3) to pixel values (B, N * towers * 3, h, w)."""
        pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 1, 4, 2, 3)
        scaled = pixels.to(self.mean.device).float().div_(255)
        towers = len(self.config.towers)
        return torch.cat([scaled] * towers, dim=2).sub_(self.mean).div_(self.std).flatten(1, 2)


def load_preprocessor(content: Mapping[str, Any], config: MoxinConfig) -> Preprocessor:
    """Read means and deviations from `preprocessor_config.json`.

    Raises:
        CheckpointError: There is not one pair per tower, or an unsupported step is asked for.
    """
    params: Sequence[Mapping[str, Sequence[float]]] = content.get("tvf_normalize_params", ())
    if len(params) != len(config.towers):
        raise CheckpointError(
            f"preprocessor_config.json: tvf_normalize_params has {len(params)} entries. "
            f"Expected {len(config.towers)}, one per vision tower."
        )
    for step in ("center_crop", "jpeg_round_trip"):
        if content.get(step, False):
            raise CheckpointError(f"preprocessor_config.json: '{step}' is not supported yet.")
    columns = [torch.tensor([v for p in params for v in p[name]]) for name in ("mean", "std")]
    mean, std = (column.float().view(1, 1, -1, 1, 1) for column in columns)
    return Preprocessor(config, mean, std)
