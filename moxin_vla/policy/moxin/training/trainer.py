"""The training loop: bf16 arithmetic (where it pays) over fp32 master weights, an average of the
weights for use, resumable at any point.
"""

import copy
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from moxin_vla.policy.moxin.config import MoxinConfig
from moxin_vla.policy.moxin.model import ActionPrefix, MoxinVLA
from moxin_vla.policy.moxin.training.arithmetic import bf16_pays
from moxin_vla.policy.moxin.training.data import Batch, Sampler
from moxin_vla.policy.moxin.training.objective import (
    as_tensor,
    auxiliary_losses,
    located,
    scene_vector,
)
from moxin_vla.policy.moxin.training.prefix import after_prefix, committed_prefix
from moxin_vla.policy.moxin.training.settings import TrainConfig
from moxin_vla.policy.moxin.training.teacher import Teacher


class Codec:
    """Turns batches into model input and normalised targets; the model's own statistics and
    tokenizer behind three calls.

    Args:
        pixels: uint8 images (B, N, h, w, 3) -> pixel values (B, C, h, w).
        tokens: Instructions -> ids and mask (B, L).
        proprio: Proprio (B, D) in [rad] -> normalised.
        actions: Absolute chunk (B, H, D) and proprio (B, D) in [rad] -> normalised targets.
    """

    def __init__(
        self,
        pixels: Callable[[NDArray], Tensor],
        tokens: Callable[[list[str]], tuple[Tensor, Tensor]],
        proprio: Callable[[NDArray], NDArray],
        actions: Callable[[NDArray, NDArray], NDArray],
    ) -> None:
        self.pixels, self.tokens, self.proprio, self.actions = pixels, tokens, proprio, actions


class Trainer:
    """Owns model, teacher, optimiser and their state on disk."""

    def __init__(
        self,
        model_config: MoxinConfig,
        config: TrainConfig,
        codec: Codec,
        sampler: Sampler,
        folder: Path,
    ) -> None:
        torch.manual_seed(config.seed)
        self.config, self._codec, self._sampler, self._folder = config, codec, sampler, folder
        self._model_config = model_config
        self._master = _Both(initialised(MoxinVLA(model_config)), Teacher(model_config))
        self._dtype = torch.bfloat16 if bf16_pays("cpu") else torch.float32
        self._worker = copy.deepcopy(self._master).to(self._dtype)
        self.average = copy.deepcopy(self._master)
        decay = [p for p in self._master.parameters() if p.ndim >= 2]
        rest = [p for p in self._master.parameters() if p.ndim < 2]
        self._optimiser = torch.optim.AdamW(
            [
                {"params": decay, "weight_decay": config.weight_decay},
                {"params": rest, "weight_decay": 0.0},
            ],
            lr=config.learning_rate,
            betas=(0.9, 0.98),
            fused=True,
        )
        self._generator = torch.Generator().manual_seed(config.seed)
        self.samples, self._started, self._window = 0, time.monotonic(), _Window()
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def model(self) -> MoxinVLA:
        """The averaged model: the one to use and to save."""
        return self.average.model

    @property
    def done(self) -> bool:
        """True once the planned samples are used up."""
        return self.samples >= self.config.total_samples

    def step(self) -> None:
        """Train on one batch."""
        config = self.config
        losses = self._losses(self._sampler.draw(config.batch_size))
        weights = asdict(config.weights)
        total = losses["action"] + sum(weights[name] * losses[name] for name in weights)
        total.backward()
        self._apply()
        self.samples += config.batch_size
        self._window.add({name: float(loss.detach()) for name, loss in losses.items()})

    def _losses(self, batch: Batch) -> dict[str, Tensor]:
        codec = self._codec
        ids, mask = codec.tokens(batch.texts)
        proprio = as_tensor(codec.proprio(batch.proprio).astype(np.float32))
        target = as_tensor(codec.actions(batch.chunk, batch.proprio).astype(np.float32))
        prefix, target = self._prefix(target)
        output = self._worker.model(
            codec.pixels(batch.images).to(self._dtype), ids, mask, proprio.to(self._dtype), prefix
        )
        logits, offsets, vectors = self._worker.teacher(output)
        pixels, vector = as_tensor(batch.pixels), as_tensor(scene_vector(batch))
        losses = auxiliary_losses(
            logits.float(), offsets.float(), vectors.float(), pixels, vector, self._model_config
        )
        error = after_prefix((output.actions.float() - target).abs(), prefix)
        grid = self._model_config.towers[0].grid
        self._window.add({"located": located(logits.detach(), pixels, grid)})
        return {"action": error.mean(), **losses}

    def _prefix(self, target: Tensor) -> tuple[ActionPrefix | None, Tensor]:
        if self.config.prefix_steps == 0:
            return None, target
        absolute = self._model_config.absolute_dims
        return committed_prefix(target, self.config, absolute, self._generator)

    def _apply(self) -> None:
        master, worker = list(self._master.parameters()), list(self._worker.parameters())
        for target, source in zip(master, worker, strict=True):
            target.grad = None if source.grad is None else source.grad.float()
            source.grad = None
        nn.utils.clip_grad_norm_(master, self.config.clip)
        rate = self._rate()
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._optimiser.step()
        keep = self._average_decay()
        with torch.no_grad():
            torch._foreach_copy_(worker, master)
            torch._foreach_lerp_(list(self.average.parameters()), master, 1.0 - keep)

    def _average_decay(self) -> float:
        """Keep more of the past as training goes on, so that the start is forgotten."""
        steps = self.samples / self.config.batch_size
        window = min(self.config.ema_samples / self.config.batch_size, 10 + 0.2 * steps)
        return 1.0 - 1.0 / window

    def _rate(self) -> float:
        config = self.config
        if self.samples < config.warmup_samples:
            return (
                config.learning_rate * (self.samples + config.batch_size) / config.warmup_samples
            )
        progress = min(1.0, self.samples / config.total_samples)
        cosine = 0.5 * (1 + math.cos(math.pi * progress))
        return config.learning_rate * (config.final_rate + (1 - config.final_rate) * cosine)

    def log(self) -> dict[str, float]:
        """Append the means since the last call to `train.jsonl` and return them."""
        row = {
            "samples": self.samples,
            "frames": len(self._sampler),
            "learning_rate": self._rate(),
            "wall_s": round(time.monotonic() - self._started, 1),
            **self._window.means(),
        }
        with (self._folder / "train.jsonl").open("a", encoding="utf-8") as file:
            file.write(
                json.dumps({key: float(f"{value:.5g}") for key, value in row.items()}) + "\n"
            )
        return row

    def save(self) -> None:
        """Write the whole state; a crash while writing leaves the last one."""
        state = {
            "master": self._master.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "samples": self.samples,
        }
        partial = self._folder / "state.partial"
        torch.save(state, partial)
        partial.replace(self._folder / "state.pt")

    def resume(self) -> bool:
        """Load the last state if there is one; returns whether there was."""
        state = read_state(self._folder)
        if state is None:
            return False
        self._master.load_state_dict(state["master"])
        self.average.load_state_dict(state["average"])
        self._optimiser.load_state_dict(state["optimiser"])
        self.samples = state["samples"]
        with torch.no_grad():
            torch._foreach_copy_(list(self._worker.parameters()), list(self._master.parameters()))
        return True

    def start_from(self, weights: dict[str, Tensor]) -> None:
        """Begin with another run's averaged weights."""
        with torch.no_grad():
            for model in (self._master, self._worker, self.average):
                model.load_state_dict(weights)


def read_state(folder: Path) -> dict[str, Any] | None:
    """Return what `Trainer.save` wrote into a folder; None if it wrote nothing yet."""
    path = folder / "state.pt"
    return torch.load(path, weights_only=True) if path.is_file() else None


class _Both(nn.Module):
    def __init__(self, model: MoxinVLA, teacher: Teacher) -> None:
        super().__init__()
        self.model, self.teacher = model, teacher


class _Window:
    def __init__(self) -> None:
        self._sums: dict[str, list[float]] = {}

    def add(self, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._sums.setdefault(name, []).append(value)

    def means(self) -> dict[str, float]:
        means = {name: float(np.mean(values)) for name, values in self._sums.items()}
        self._sums.clear()
        return means


def initialised(model: MoxinVLA) -> MoxinVLA:
    """Start the towers with two-dimensional sine positions and the action slots apart; the rest
    keeps its default.
    """
    for tower in model.vision_backbone.children():
        position = _sine_positions(int(tower.pos_embed.shape[1] ** 0.5), tower.pos_embed.shape[2])
        tower.pos_embed.data.copy_(0.5 * position)
        if tower.num_prefix_tokens:
            nn.init.normal_(tower.cls_token, std=0.5)
            nn.init.normal_(tower.reg_token, std=0.5)
    if model.config.action_slots == "learned":
        nn.init.normal_(model.action_slots, std=0.5)
    return model


def _sine_positions(grid: int, width: int) -> Tensor:
    """Two-dimensional sine-cosine embedding, shape (1, grid^2, width) (He et al. 2022, masked
    autoencoders).
    """
    quarter = width // 4
    frequency = torch.pi * 2.0 ** torch.linspace(-1, math.log2(grid), quarter)
    at = (torch.arange(grid) + 0.5) / grid
    waves = torch.cat(
        [(at[:, None] * frequency).sin(), (at[:, None] * frequency).cos()], dim=1
    )  # (grid, width / 2)
    rows = waves[:, None].expand(grid, grid, -1)
    columns = waves[None].expand(grid, grid, -1)
    return torch.cat([rows, columns], dim=-1).reshape(1, grid * grid, -1)
