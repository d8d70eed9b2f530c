"""A checkpoint opened for training: the model, what turns rows into its inputs and targets, and
how to write it again.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from moxin_vla.core.embodiment import ActionSpace
from moxin_vla.core.errors import MoxinVlaError
from moxin_vla.policy.loading import own_checkpoint
from moxin_vla.policy.moxin.checkpoint import load_checkpoint, save_checkpoint
from moxin_vla.policy.moxin.model import MoxinVLA
from moxin_vla.policy.moxin.opening import open_checkpoint
from moxin_vla.policy.moxin.policy_file import PolicyFile, as_source
from moxin_vla.policy.moxin.tokenizer import load_tokenizer
from moxin_vla.policy.moxin.training.objective import as_tensor, relative_chunk

CHANCES = 4  # random numbers in [0, 1) of each image's augmentation


def training_source(source: str) -> PolicyFile:
    """Return what a user's base means: a checkpoint, ours or LeRobot's, or a policy file.

    Weights are read as they are stored: on a GPU they would be rounded to bfloat16.
    """
    named = as_source(own_checkpoint(source))
    settings = named if isinstance(named, PolicyFile) else PolicyFile(named)
    return replace(settings, dtype="float32")


class Trainable:
    """A model that learns chunks of absolute joint targets, with its codecs.

    Args:
        source: Checkpoint directory or policy file to begin with.
        device: Torch device.
        crops: Whether it will learn from random crops: then it is to see the middle one.

    Raises:
        MoxinVlaError: The checkpoint's head can't be trained here.
    """

    def __init__(self, source: str, device: str = "cpu", crops: bool = False) -> None:
        settings = training_source(source)
        opened = open_checkpoint(settings)
        if opened.config.head != "l1":
            raise MoxinVlaError(
                f"Only L1 heads can be trained. '{source}' has: {opened.config.head}"
            )
        loaded = load_checkpoint(settings, device)
        self.model, self.fingerprint = loaded.model.float(), loaded.fingerprint
        self.config, self._statistics = opened.config, loaded.statistics
        self._statistics_content = opened.statistics_content()
        self._steps_before = {**opened.preprocessor, **opened.preprocessing()}
        self._tokenizer = load_tokenizer(opened.tokenizer_file())
        self._prompts, self._preprocessor = loaded.tokenizer, loaded.preprocessor
        if crops:
            self._steps_before["center_crop"] = True
            steps = replace(self._preprocessor.steps, center_crop=True)
            self._preprocessor = replace(self._preprocessor, steps=steps)

    def errors(
        self,
        images: NDArray[np.uint8],
        proprio: NDArray[np.float32],
        chunks: NDArray[np.float32],
        texts: Sequence[str],
        chance: Tensor | None = None,
    ) -> Tensor:
        """Return the mean absolute error of every step, normalised, shape (B, H).

        Args:
            images: RGB in the order of the model's cameras, shape (B, N, height, width, 3).
            proprio: Shape (B, D), in [rad].
            chunks: Absolute targets, shape (B, H, D), in [rad].
            texts: Instructions, length B.
            chance: Crop and change the light by these, in [0, 1), shape (B, CHANCES).
        """
        if self.config.action_space is ActionSpace.JOINT_DELTA:
            chunks = relative_chunk(chunks, proprio, self.config.absolute_dims)
        target = as_tensor(self._statistics.action.normalise(chunks)).float()
        output = self._forward(images, proprio, texts, chance)
        return (output.float() - target.to(output.device)).abs().mean(-1)

    @torch.no_grad()
    def predict(
        self, images: NDArray[np.uint8], proprio: NDArray[np.float32], texts: Sequence[str]
    ) -> NDArray[np.float64]:
        """Return absolute targets, shape (B, H, D), in [rad]; arguments as of `errors`."""
        output = self._forward(images, proprio, texts, None)
        actions = self._statistics.action.unnormalise(output.double().cpu().numpy())
        if self.config.action_space is ActionSpace.JOINT_DELTA:
            actions = relative_chunk(actions, -proprio, self.config.absolute_dims)
        return actions

    def _forward(
        self,
        images: NDArray[np.uint8],
        proprio: NDArray[np.float32],
        texts: Sequence[str],
        chance: Tensor | None,
    ) -> Tensor:
        """Return normalised actions, shape (B, H, D)."""
        device = next(self.model.parameters()).device
        ids, mask = (torch.tensor(rows) for rows in self._prompts.padded(texts))
        pixels = self._preprocessor.pixel_values(self._prepared(images, chance is not None))
        if chance is not None:
            pixels = augmented(pixels, chance)
        scaled = as_tensor(self._statistics.normalise_proprio(proprio)).float()
        output = self.model(
            pixels.to(device),
            ids.to(device),
            None if bool(mask.all()) else mask.to(device),
            scaled.to(device) if self.config.proprio_dim else None,
        )
        assert output.actions is not None
        return output.actions

    def _prepared(self, images: NDArray[np.uint8], cropped: bool) -> NDArray[np.uint8]:
        """Return images as inference prepares them; a random crop stands for the middle one."""
        steps = self._preprocessor.steps
        prepare = replace(
            self._preprocessor, steps=replace(steps, center_crop=steps.center_crop and not cropped)
        )
        cameras = self.config.cameras
        return np.stack([prepare.stack(dict(zip(cameras, row, strict=True))) for row in images])

    def save(self, folder: Path, model: MoxinVLA | None = None) -> None:
        """Write a checkpoint that any of our tools loads.

        Args:
            folder: Where to.
            model: What to write instead of the model: the same with adapters merged.
        """
        save_checkpoint(folder, model or self.model, self._statistics_content, self._tokenizer)
        file = folder / "preprocessor_config.json"
        steps = {**json.loads(file.read_text(encoding="utf-8")), **self._steps_before}
        file.write_text(json.dumps(steps, indent=2), encoding="utf-8")


def augmented(pixels: Tensor, chance: Tensor) -> Tensor:
    """Crop 90 % of the area at random and vary brightness and contrast, alike for all cameras.

    As OpenVLA-OFT does (random resized crop, colour jitter), on normalised pixels (B, C, h, w),
    by random numbers in [0, 1), shape (B, CHANCES).
    """
    batch, _, height, width = pixels.shape
    side = 0.9**0.5
    chance = chance * 2 - 1
    offset = chance[:, :2] * (1 - side)
    theta = torch.zeros(batch, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = side
    theta[:, :, 2] = offset
    grid = nn.functional.affine_grid(theta, [batch, 1, height, width], align_corners=False)
    cropped = nn.functional.grid_sample(
        pixels, grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    contrast = 1 + chance[:, 2].view(batch, 1, 1, 1) * 0.2
    brightness = chance[:, 3].view(batch, 1, 1, 1) * 0.2
    return cropped * contrast + brightness
