"""A checkpoint directory in the layout of the released ones.

Every file is written atomically; every tensor is accounted for when it is read.

    config.json  dataset_statistics.json  preprocessor_config.json  tokenizer.json
    model.safetensors
    action_head--STEP_checkpoint.pt  proprio_projector--STEP_checkpoint.pt
    vision_backbone--STEP_checkpoint.pt (with FiLM)

With FiLM the wrapped vision backbone has its own file, as in OpenVLA-OFT+. `.pt` files are read
as weights only.
"""

import hashlib
import json
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from moxin_vla.core.errors import CheckpointError, listed
from moxin_vla.policy.moxin.config import MoxinConfig
from moxin_vla.policy.moxin.config_io import config_from_json, config_to_json
from moxin_vla.policy.moxin.model import TOWER_NAMES, MoxinVLA
from moxin_vla.policy.moxin.preprocess import (
    Preprocessor,
    default_preprocessor,
    load_preprocessor,
)
from moxin_vla.policy.moxin.statistics import (
    Statistics,
    load_statistics,
    parse_statistics,
    select_entry,
)
from moxin_vla.policy.moxin.tokenizer import PromptTokenizer, load_tokenizer

_MODULES = ("action_head", "proprio_projector", "vision_backbone")
_WEIGHTS = "model.safetensors"
_SHOWN = 5
# What safetensors and torch raise for damaged files; torch answers some truncations with OSError.
_UNREADABLE = (SafetensorError, RuntimeError, OSError, EOFError, pickle.UnpicklingError)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A loaded checkpoint: the model in evaluation mode, and its input and output codecs.

    Attributes:
        model: The model.
        statistics: Normalisation of proprio and actions.
        tokenizer: The prompt's tokenizer.
        preprocessor: Images to pixel values.
        fingerprint: First 16 hex digits of the sha256 over all files that determine the answer.
    """

    model: MoxinVLA
    statistics: Statistics
    tokenizer: PromptTokenizer
    preprocessor: Preprocessor
    fingerprint: str

    @property
    def config(self) -> MoxinConfig:
        """The model's config."""
        return self.model.config


def save_checkpoint(
    directory: Path,
    model: MoxinVLA,
    statistics: dict[str, Any],
    tokenizer: Tokenizer,
    step: str = "latest",
) -> None:
    """Write a checkpoint; each file appears whole or not at all.

    Args:
        directory: Where to; made if missing.
        model: Weights and config.
        statistics: Content of `dataset_statistics.json`: data set name -> entry.
        tokenizer: The prompt's tokenizer.
        step: Goes into the names of the module files.
    """
    directory.mkdir(parents=True, exist_ok=True)
    parts = _split(model.state_dict(), film=model.config.film)
    trunk = {name: tensor.contiguous() for name, tensor in parts.pop("").items()}
    _write(directory / _WEIGHTS, lambda path: save_file(trunk, path, {"format": "pt"}))
    for name, tensors in parts.items():
        file = directory / f"{name}--{step}_checkpoint.pt"
        _write(file, lambda path, tensors=tensors: torch.save(tensors, path))
    _write_json(directory / "dataset_statistics.json", statistics)
    _write_json(directory / "preprocessor_config.json", default_preprocessor(model.config))
    _write(directory / "tokenizer.json", lambda path: tokenizer.save(str(path)))
    _write_json(directory / "config.json", config_to_json(model.config, statistics))


def load_checkpoint(directory: str | Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        CheckpointError: A file is missing, truncated or inconsistent; tensors are named.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise CheckpointError(f"There is no checkpoint directory at '{directory}'.")
    config = config_from_json(_read_json(directory / "config.json"))
    entry = select_entry(
        load_statistics(directory / "dataset_statistics.json"), config.statistics_key
    )
    statistics = parse_statistics(entry, config.norm_type, config.action_dim, config.proprio_dim)
    preprocessor = load_preprocessor(_read_json(directory / "preprocessor_config.json"), config)
    tokenizer = PromptTokenizer(load_tokenizer(directory / "tokenizer.json"), config)
    files = _weight_files(directory, config)
    with torch.device("meta"):
        model = MoxinVLA(config)
    tensors = {
        key: tensor for key, tensor in _read_weights(files).items() if not _unused(key, config)
    }
    _check(model.state_dict(), tensors, directory)
    model.load_state_dict(tensors, assign=True)
    hashed = (*files.values(), *(directory / n for n in _TEXT_FILES))
    return Checkpoint(model.eval(), statistics, tokenizer, preprocessor, _fingerprint(hashed))


_TEXT_FILES = (
    "config.json",
    "dataset_statistics.json",
    "preprocessor_config.json",
    "tokenizer.json",
)


def _split(state: Mapping[str, Tensor], film: bool) -> dict[str, dict[str, Tensor]]:
    """Sort tensors into files: the module's name, or "" for model.safetensors."""
    own = _MODULES if film else _MODULES[:2]
    parts: dict[str, dict[str, Tensor]] = {name: {} for name in ("", *own)}
    for key, tensor in state.items():
        module, _, rest = key.partition(".")
        if module in own:
            parts[module][_wrapped(rest) if module == "vision_backbone" else rest] = tensor
        else:
            parts[""][key] = tensor
    return parts


def _wrapped(key: str) -> str:
    """Name a FiLM tower's tensor as the released wrapper does.

    `blocks.3.attn.qkv.weight` becomes `blocks.3.block.attn.qkv.weight`.
    """
    parts = key.split(".")
    if parts[1] == "blocks" and parts[3] not in ("scale", "shift"):
        parts.insert(3, "block")
    return ".".join(parts)


def _unwrapped(key: str) -> str:
    parts = key.split(".")
    if len(parts) > 3 and parts[1] == "blocks" and parts[3] == "block":
        del parts[3]
    return ".".join(parts)


def _weight_files(directory: Path, config: MoxinConfig) -> dict[str, Path]:
    files = {"": directory / _WEIGHTS}
    for module in _MODULES if config.film else _MODULES[:2]:
        found = sorted(directory.glob(f"{module}--*_checkpoint.pt"))
        if len(found) != 1:
            raise CheckpointError(
                f"Expected exactly one file {module}--STEP_checkpoint.pt in '{directory}'. "
                f"Found: {listed(file.name for file in found)}"
            )
        files[module] = found[0]
    if not files[""].is_file():
        raise CheckpointError(f"The checkpoint has no weights: '{files['']}' is missing.")
    return files


def _read_weights(files: Mapping[str, Path]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for module, file in files.items():
        try:
            read = load_file(file) if module == "" else torch.load(file, weights_only=True)
        except _UNREADABLE as error:
            raise CheckpointError(f"'{file}' is damaged or not a weights file: {error}") from None
        for key, tensor in read.items():
            key = key.removeprefix("module.")
            if module == "vision_backbone":
                key = _unwrapped(key)
            tensors[f"{module}.{key}" if module else key] = tensor
    return tensors


def _unused(key: str, config: MoxinConfig) -> bool:
    """True for the tensors of released checkpoints that are never computed here.

    Those are the output vocabulary, and in each tower the blocks past the last used one, the final
    norm and the pooling.
    """
    if key == "language_model.lm_head.weight":
        return True
    for name, tower in zip(TOWER_NAMES, config.towers, strict=False):
        prefix = f"vision_backbone.{name}."
        if key.startswith(prefix):
            part, _, rest = key.removeprefix(prefix).partition(".")
            if part == "blocks":
                return tower.blocks_used <= int(rest.partition(".")[0]) < tower.depth
            return part in ("norm", "attn_pool")
    return False


def _check(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], directory: Path) -> None:
    missing = [key for key in expected if key not in found]
    unexpected = [key for key in found if key not in expected]
    wrong = [
        f"{key} (found {tuple(found[key].shape)}, expected {tuple(expected[key].shape)})"
        for key in expected
        if key in found and found[key].shape != expected[key].shape
    ]
    problems = [
        f"{label} {len(keys)}: {listed(keys[:_SHOWN])}{', ...' if len(keys) > _SHOWN else ''}"
        for label, keys in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("wrong shape", wrong),
        )
        if keys
    ]
    if problems:
        raise CheckpointError(
            f"The weights in '{directory}' don't fit its config.json.\n  " + "\n  ".join(problems)
        )


def _fingerprint(files: tuple[Path, ...]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"The checkpoint is incomplete: '{path}' is missing.") from None
    except json.JSONDecodeError as error:
        raise CheckpointError(f"'{path}' is not valid JSON: {error}") from None


def _write_json(path: Path, content: dict[str, Any]) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    _write(path, lambda target: target.write_text(text, encoding="utf-8"))


def _write(path: Path, write: Callable[[Path], Any]) -> None:
    partial = path.with_name(path.name + ".partial")
    write(partial)
    partial.replace(path)
