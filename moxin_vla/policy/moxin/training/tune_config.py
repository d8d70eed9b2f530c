"""What a fine-tuning run is told, checked."""

from dataclasses import dataclass, fields
from typing import Any, Literal

from moxin_vla.core.errors import MoxinVlaError


@dataclass(frozen=True, slots=True)
class TuneConfig:
    """How to fine-tune.

    Attributes:
        learn: `all` weights, the action `head` and projectors of proprio, or `lora`: adapters in
            all linear layers, and the head fully.
        steps: Optimiser steps.
        batch_size: Samples per step, over all accumulated parts.
        accumulate: Parts a batch is computed in.
        learning_rate: Peak.
        decay_at: Share of the steps after which the rate falls to a tenth (OpenVLA-OFT); 1: never.
        warmup_steps: Steps of linear warm-up.
        weight_decay: On matrices.
        clip: Largest gradient norm.
        rank: Of LoRA.
        alpha: Of LoRA; updates are scaled by alpha / rank.
        fresh_head: Begin with a new action head.
        image_augmentation: Random crops of 90 % of the area and colour jitter (OpenVLA-OFT).
        bf16: Compute in bfloat16; `auto`: where that is faster.
        average: Time constant of the average of the weights that is saved, in steps; 0: none.
        save_every: Steps between checkpoints.
        seed: Of draws and augmentations.
    """

    learn: Literal["all", "head", "lora"] = "all"
    steps: int = 1000
    batch_size: int = 32
    accumulate: int = 1
    learning_rate: float = 5.0e-4
    decay_at: float = 1.0
    warmup_steps: int = 50
    weight_decay: float = 0.01
    clip: float = 1.0
    rank: int = 32
    alpha: int = 16
    fresh_head: bool = False
    image_augmentation: bool = False
    bf16: bool | Literal["auto"] = False
    average: int = 0
    save_every: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            if field.type in (int, float):
                number = _number(field.name, getattr(self, field.name), field.type)
                object.__setattr__(self, field.name, number)  # YAML takes 1e-4 for text
        for name in ("steps", "batch_size", "accumulate", "save_every", "rank"):
            if getattr(self, name) < 1:
                raise MoxinVlaError(f"{name}: {getattr(self, name)}. Expected: at least 1")
        if self.average < 0:
            raise MoxinVlaError(f"average: {self.average}. Expected: steps, or 0 for none")
        if self.learn not in ("all", "head", "lora"):
            raise MoxinVlaError(f"learn: '{self.learn}'. Choose from: all, head, lora")
        if self.bf16 not in (True, False, "auto"):
            raise MoxinVlaError(f"bf16: '{self.bf16}'. Choose from: true, false, auto")
        if self.batch_size % self.accumulate:
            raise MoxinVlaError(
                f"batch_size {self.batch_size} is not a multiple of accumulate {self.accumulate}."
            )


def _number(name: str, value: Any, kind: type) -> Any:
    try:
        number = kind(value)
        if isinstance(value, bool) or number != float(value):
            raise ValueError
    except (OverflowError, TypeError, ValueError):
        raise MoxinVlaError(f"{name}: '{value}' is no {kind.__name__}.") from None
    return number
