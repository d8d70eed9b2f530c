"""LoRA: low-rank updates merged into the weights, W + (alpha / r) B A (arXiv 2106.09685)."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from moxin_vla.core.errors import CheckpointError, listed
from moxin_vla.policy.moxin.weights import Stored, Weights, open_safetensors

_DOWN, _UP = ".lora_A", ".lora_B"
# What changes the merge; anything but these values would be merged wrong.
_REFUSED = {"use_dora": False, "use_rslora": False, "fan_in_fan_out": False, "bias": "none"}
_EMPTY = ("rank_pattern", "alpha_pattern", "modules_to_save")


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter on disk.

    Attributes:
        weights: Its tensors.
        scale: alpha / r.
        rank: r.
        base: What it was trained on, as its file says; may be a path of another machine.
    """

    weights: Weights
    scale: float
    rank: int
    base: str


def open_adapter(directory: Path) -> Adapter:
    """Look at a PEFT adapter directory (`lora_adapter/`).

    Raises:
        CheckpointError: A file is missing, or the adapter is of a kind that can't be merged here.
    """
    file = directory / "adapter_config.json"
    if not file.is_file():
        raise CheckpointError(f"The adapter is incomplete: '{file}' is missing.")
    config = json.loads(file.read_text(encoding="utf-8"))
    wrong = [f"{k}: {config[k]}" for k, v in _REFUSED.items() if config.get(k, v) != v]
    wrong += [f"{k}: {config[k]}" for k in _EMPTY if config.get(k)]
    if config.get("peft_type") != "LORA" or wrong:
        raise CheckpointError(
            f"'{file}' can't be merged: only plain LoRA can. Found: "
            f"{listed([f'peft_type: {config.get("peft_type")}', *wrong])}"
        )
    weights = open_safetensors(directory / "adapter_model.safetensors")
    scale = config["lora_alpha"] / config["r"]
    return Adapter(weights, scale, config["r"], str(config.get("base_model_name_or_path", "")))


def merge_adapter(base: Weights, adapter: Adapter) -> Weights:
    """Return `base` with every update of the adapter merged in, lazily.

    Raises:
        CheckpointError: The adapter changes a tensor that the base does not have, or half of a
            pair is missing.
    """
    merged = dict(base)
    pairs = _pairs({_plain(name): stored for name, stored in adapter.weights.items()})
    for name, (down, up) in pairs.items():
        target = f"{name}.weight"
        if target not in base:
            raise CheckpointError(f"The adapter changes '{target}', which the base does not have.")
        merged[target] = _merged(base[target], down, up, adapter.scale)
    return merged


def merge_wrapped(weights: Weights, scale: float) -> Weights:
    """Merge the updates inside a saved PEFT module: `X.base_layer.weight` becomes `X.weight`."""
    plain = {
        name.replace(".base_layer.", "."): stored
        for name, stored in weights.items()
        if _DOWN not in name and _UP not in name
    }
    for name, (down, up) in _pairs(weights).items():
        target = f"{name}.weight"
        if target not in plain:
            raise CheckpointError(f"LoRA changes '{target}', which has no base layer.")
        plain[target] = _merged(plain[target], down, up, scale)
    return plain


def is_wrapped(weights: Weights) -> bool:
    """True if a saved module still holds unmerged updates."""
    return any(_DOWN in name for name in weights)


def _plain(name: str) -> str:
    return name.removeprefix("base_model.model.")


def _pairs(weights: Weights) -> dict[str, tuple[Stored, Stored]]:
    pairs: dict[str, dict[str, Stored]] = {}
    for name, stored in weights.items():
        for kind in (_DOWN, _UP):
            if kind in name:
                pairs.setdefault(name.partition(kind)[0], {})[kind] = stored
    if odd := [name for name, pair in pairs.items() if len(pair) != 2]:
        raise CheckpointError(f"The adapter has half of a pair only for: {listed(odd[:5])}")
    return {name: (pair[_DOWN], pair[_UP]) for name, pair in pairs.items()}


def _merged(base: Stored, down: Stored, up: Stored, scale: float) -> Stored:
    if (up.shape[0], down.shape[1]) != base.shape or up.shape[1] != down.shape[0]:
        raise CheckpointError(
            f"An update of shapes {up.shape} x {down.shape} does not fit a weight of {base.shape}."
        )

    def read() -> Tensor:
        update = torch.mm(up.read().float(), down.read().float()).mul_(scale)
        return update.add_(base.read()).to(base.dtype)

    return Stored(base.shape, base.dtype, base.file, read, mapped=False)


def adapter_scale(directory: Path, default: dict[str, Any]) -> float:
    """Return alpha / r of `lora_adapter/`, or of the recipe of the released ones."""
    file = directory / "lora_adapter" / "adapter_config.json"
    config = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else default
    return config["lora_alpha"] / config["r"]
