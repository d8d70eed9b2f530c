"""From camera images to pixel values.

Every image goes through the steps that the checkpoint was trained with, is normalised once per
tower, and the cameras follow each other on channels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from moxin_vla.core.errors import CheckpointError, ObservationError, listed
from moxin_vla.policy.moxin.architecture import VisionTowerConfig
from moxin_vla.policy.moxin.config import MoxinConfig
from moxin_vla.policy.moxin.pixels import (
    centre_crop,
    jpeg_round_trip,
    lanczos3_resize,
    rotate_180,
)

# As stored in the released `preprocessor_config.json`, rounded to bf16: DINO, then SigLIP.
_DINO = {"mean": [0.484375, 0.455078125, 0.40625], "std": [0.228515625, 0.2236328125, 0.224609375]}
_SIGLIP = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
_CLIP = {  # OpenAI's, not rounded
    "mean": [0.48145466, 0.4578275, 0.40821073],
    "std": [0.26862954, 0.26130258, 0.27577711],
}
_OURS = "moxin_vla"


@dataclass(frozen=True, slots=True)
class Steps:
    """What happens to a camera's image before it is normalised, in this order.

    Attributes:
        rotate_180: Cameras that are upside down in comparison with the training data.
        resize: `none` takes images of the model's size only; `lanczos3` takes any, without keeping
            the aspect.
        jpeg_round_trip: Before resizing, as the training data was stored; an image that has the
            model's size already is taken as it is.
        center_crop: The middle 90 % of the area, for models trained on random crops.

    Raises:
        CheckpointError: `resize` is unknown.
    """

    rotate_180: tuple[str, ...] = ()
    resize: Literal["none", "lanczos3"] = "none"
    jpeg_round_trip: bool = False
    center_crop: bool = False

    def __post_init__(self) -> None:
        if self.resize not in ("none", "lanczos3"):
            raise CheckpointError(
                f"preprocessing: unknown resize '{self.resize}'. Choose from: none, lanczos3"
            )
        if self.jpeg_round_trip and self.resize == "none":
            raise CheckpointError("preprocessing: jpeg_round_trip needs resize: lanczos3.")


def default_preprocessor(config: MoxinConfig) -> dict[str, Any]:
    """Return the content of `preprocessor_config.json` for a model trained here."""
    return {
        "image_resize_strategy": "resize-naive",
        "input_sizes": [[3, t.image_size, t.image_size] for t in config.towers],
        "tvf_normalize_params": _default_params(config.towers),
        "center_crop": False,
        "jpeg_round_trip": False,
    }


def _default_params(towers: tuple[VisionTowerConfig, ...]) -> list[dict[str, list[float]]]:
    if len(towers) == 2:
        return [_DINO, _CLIP if "clip" in towers[1].model_id.split("_") else _SIGLIP]
    name = towers[0].model_id.split("_")
    return [_SIGLIP if "siglip" in name else _CLIP if "clip" in name else _DINO]


def tower_params(
    content: Mapping[str, Any], towers: tuple[VisionTowerConfig, ...]
) -> Sequence[Mapping[str, Sequence[float]]]:
    """Return `mean` and `std` of every tower; the released ones if the file does not say.

    Raises:
        CheckpointError: There is not one pair per tower.
    """
    params = content.get("tvf_normalize_params", _default_params(towers))
    if len(params) != len(towers):
        raise CheckpointError(
            f"preprocessor_config.json: tvf_normalize_params has {len(params)} entries. "
            f"Expected {len(towers)}, one per vision tower."
        )
    return params


@dataclass(frozen=True, slots=True)
class Preprocessor:
    """Prepares and normalises images for a model.

    Attributes:
        config: For cameras and image size.
        steps: What happens before normalisation.
        mean: Channel means, shape (1, 1, 3 * towers, 1, 1).
        std: Channel deviations, same shape.
    """

    config: MoxinConfig
    steps: Steps
    mean: Tensor
    std: Tensor

    def stack(self, images: Mapping[str, NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """Bring the model's cameras into its order and size, shape (N, h, w, 3).

        Raises:
            ObservationError: A camera is missing, or an image has the wrong size and the model
                does not resize.
        """
        for camera in self.config.cameras:
            if camera not in images:
                raise ObservationError(
                    f"The policy needs camera '{camera}'. The observation has: {listed(images)}"
                )
        return np.stack([self._prepared(name, images[name]) for name in self.config.cameras])

    def _prepared(self, camera: str, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        side, steps = self.config.image_size, self.steps
        if camera in steps.rotate_180:
            image = rotate_180(image)
        if image.shape != (side, side, 3):
            if steps.resize == "none":
                raise ObservationError(
                    f"Image '{camera}' must be {side}x{side} RGB. Got: {image.shape}"
                )
            image = jpeg_round_trip(image) if steps.jpeg_round_trip else image
            image = lanczos3_resize(image, side)
        return centre_crop(image) if steps.center_crop else image

    def pixel_values(
        self, images: NDArray[np.uint8], device: torch.device | None = None
    ) -> Tensor:
        """Map images (B, N, h, w, 3) to pixel values (B, N * towers * 3, h, w), float32.

        The images travel to the device as bytes, a quarter of what they become there.
        """
        pixels = torch.from_numpy(np.ascontiguousarray(images)).to(device)
        scaled = pixels.permute(0, 1, 4, 2, 3).float().div_(255)
        towers = len(self.config.towers)
        mean, std = self.mean.to(device), self.std.to(device)
        return torch.cat([scaled] * towers, dim=2).sub_(mean).div_(std).flatten(1, 2)


def load_preprocessor(
    content: Mapping[str, Any], config: MoxinConfig, overrides: Mapping[str, Any] | None = None
) -> Preprocessor:
    """Read the steps, means and deviations from `preprocessor_config.json`.

    Args:
        content: The file; empty for the means that every released checkpoint has.
        config: The model.
        overrides: Fields of `Steps` that win.

    Raises:
        CheckpointError: There is not one pair per tower, or a step or a camera is unknown.
    """
    params = tower_params(content, config.towers)
    columns = [torch.tensor([v for p in params for v in p[name]]) for name in ("mean", "std")]
    mean, std = (column.float().view(1, 1, -1, 1, 1) for column in columns)
    return Preprocessor(config, _steps(content, config, overrides or {}), mean, std)


def _steps(content: Mapping[str, Any], config: MoxinConfig, overrides: Mapping[str, Any]) -> Steps:
    names = [field.name for field in fields(Steps)]
    if unknown := [name for name in overrides if name not in names]:
        raise CheckpointError(f"preprocessing: unknown {listed(unknown)}. Known: {listed(names)}")
    said = {name: content[name] for name in names if name in content}
    values = said | dict(content.get(_OURS, {})) | dict(overrides)
    values["rotate_180"] = tuple(values.get("rotate_180", ()))
    if strange := [name for name in values["rotate_180"] if name not in config.cameras]:
        raise CheckpointError(
            f"preprocessing: rotate_180 names unknown cameras: {listed(strange)}. "
            f"The model has: {listed(config.cameras)}"
        )
    return Steps(**values)
