"""A checkpoint directory in the layout of the released ones.

Every file is written atomically; every tensor is accounted for when it is read.

    config.json  dataset_statistics.json  preprocessor_config.json  tokenizer.json
    model.safetensors, or its shards and model.safetensors.index.json
    action_head--STEP_checkpoint.pt  proprio_projector--STEP_checkpoint.pt
    noisy_action_projector--STEP_checkpoint.pt (diffusion)
    vision_backbone--STEP_checkpoint.pt (with FiLM)

With FiLM the wrapped vision backbone has its own file, as in OpenVLA-OFT+.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import nn

from moxin_vla.policy.moxin.config import MoxinConfig
from moxin_vla.policy.moxin.config_io import config_to_json
from moxin_vla.policy.moxin.layout import MODULES, wrapped
from moxin_vla.policy.moxin.model import MoxinVLA
from moxin_vla.policy.moxin.opening import Opened, open_checkpoint
from moxin_vla.policy.moxin.policy_file import PolicyFile
from moxin_vla.policy.moxin.preprocess import (
    Preprocessor,
    default_preprocessor,
    load_preprocessor,
)
from moxin_vla.policy.moxin.statistics import Statistics
from moxin_vla.policy.moxin.tokenizer import PromptTokenizer
from moxin_vla.policy.moxin.weights import SINGLE, Weights, moved

# Small, and worth more digits than the trunk's.
_FLOAT32 = ("action_head.", "proprio_projector.", "noisy_action_projector.")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A loaded checkpoint: the model in evaluation mode, and its input and output codecs.

    Attributes:
        model: The model.
        statistics: Normalisation of proprio and actions.
        tokenizer: The prompt's tokenizer.
        preprocessor: Images to pixel values.
        fingerprint: First 16 hex digits of the sha256 over all files that determine the answer.
        notes: What was done while loading, in words.
    """

    model: MoxinVLA
    statistics: Statistics
    tokenizer: PromptTokenizer
    preprocessor: Preprocessor
    fingerprint: str
    notes: tuple[str, ...] = ()

    @property
    def config(self) -> MoxinConfig:
        """The model's config."""
        return self.model.config


def load_checkpoint(source: str | Path | PolicyFile, device: str = "cpu") -> Checkpoint:
    """Read a checkpoint.

    Args:
        source: A directory, a Hugging Face id, or what a policy file says.
        device: Where the model shall be.

    Raises:
        CheckpointError: A file is missing, truncated or inconsistent; tensors are named.
    """
    opened = open_checkpoint(source)
    opened.check_weights()
    with torch.device("meta"):
        model = MoxinVLA(opened.config)
    dtype = compute_dtype(opened, device)
    materialise(model, opened.gathered.weights, dtype, torch.device(device))
    return Checkpoint(
        model=model.eval(),
        statistics=opened.statistics(),
        tokenizer=opened.tokenizer(),
        preprocessor=load_preprocessor(opened.preprocessor, opened.config, opened.preprocessing()),
        fingerprint=opened.fingerprint(),
        notes=opened.gathered.notes,
    )


def compute_dtype(opened: Opened, device: str) -> torch.dtype:
    """Return the arithmetic: as asked for, else bfloat16 on a GPU and the file's own on a CPU."""
    if opened.settings.dtype is not None:
        return getattr(torch, opened.settings.dtype)
    if device != "cpu":
        return torch.bfloat16
    return opened.gathered.weights["language_model.model.embed_tokens.weight"].dtype


def materialise(
    model: nn.Module, weights: Weights, dtype: torch.dtype, device: torch.device
) -> None:
    """Fill a model that was built on the meta device, one tensor after the other."""
    state = {
        name: moved(weights[name], torch.float32 if name.startswith(_FLOAT32) else dtype, device)
        for name in model.state_dict()
    }
    model.load_state_dict(state, assign=True)


def save_checkpoint(
    directory: Path,
    model: MoxinVLA,
    statistics: dict[str, Any],
    tokenizer: Tokenizer,
    step: str = "latest",
) -> None:
    """Write a checkpoint; each file appears whole or not at all.

    Args:
        directory: Where to; made if missing. Module files of other steps are removed.
        model: Weights and config.
        statistics: Content of `dataset_statistics.json`: data set name -> entry.
        tokenizer: The prompt's tokenizer.
        step: Goes into the names of the module files.
    """
    directory.mkdir(parents=True, exist_ok=True)
    parts = split_modules(model.state_dict(), film=model.config.film)
    trunk = {name: tensor.contiguous() for name, tensor in parts.pop("").items()}
    _write(directory / SINGLE, lambda path: save_file(trunk, path, {"format": "pt"}))
    for name, tensors in parts.items():
        file = directory / f"{name}--{step}_checkpoint.pt"
        if tensors:
            _write(file, lambda path, tensors=tensors: torch.save(tensors, path))
        for other in set(directory.glob(f"{name}--*_checkpoint.pt")) - {file}:
            other.unlink()
    _write_json(directory / "dataset_statistics.json", statistics)
    _write_json(directory / "preprocessor_config.json", default_preprocessor(model.config))
    _write(directory / "tokenizer.json", lambda path: tokenizer.save(str(path)))
    _write_json(directory / "config.json", config_to_json(model.config, statistics))


def split_modules(state: Mapping[str, Any], film: bool) -> dict[str, dict[str, Any]]:
    """Sort tensors into files: the module's name, or "" for the safetensors."""
    own = MODULES if film else MODULES[:3]
    parts: dict[str, dict[str, Any]] = {name: {} for name in ("", *own)}
    for key, tensor in state.items():
        module, _, rest = key.partition(".")
        if module in own:
            parts[module][wrapped(rest) if module == "vision_backbone" else rest] = tensor
        else:
            parts[""][key] = tensor
    return parts


def _write_json(path: Path, content: dict[str, Any]) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    _write(path, lambda target: target.write_text(text, encoding="utf-8"))


def _write(path: Path, write: Callable[[Path], Any]) -> None:
    partial = path.with_name(path.name + ".partial")
    write(partial)
    partial.replace(path)
