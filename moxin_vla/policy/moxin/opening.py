"""Everything about a checkpoint that can be known without reading its weights."""

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from moxin_vla.core.errors import CheckpointError, listed
from moxin_vla.policy.moxin.architecture import VisionTowerConfig
from moxin_vla.policy.moxin.backbone import TOWER_NAMES
from moxin_vla.policy.moxin.config import MoxinConfig
from moxin_vla.policy.moxin.config_io import OURS, config_from_json
from moxin_vla.policy.moxin.hub import find_checkpoint
from moxin_vla.policy.moxin.layout import Gathered, gather
from moxin_vla.policy.moxin.model import MoxinVLA
from moxin_vla.policy.moxin.policy_file import PolicyFile
from moxin_vla.policy.moxin.released import released_config, released_preprocessing
from moxin_vla.policy.moxin.statistics import (
    Statistics,
    load_statistics,
    parse_statistics,
    select_entry,
)
from moxin_vla.policy.moxin.tokenizer import PromptTokenizer, load_tokenizer
from moxin_vla.policy.moxin.weights import Weights

_SHOWN = 5
_TEXT_FILES = (
    "config.json",
    "dataset_statistics.json",
    "preprocessor_config.json",
    "tokenizer.json",
)
_STATISTICS = "dataset_statistics.json"


@dataclass(frozen=True, slots=True)
class Opened:
    """A checkpoint whose files were looked at.

    Attributes:
        directory: Where it is.
        settings: What the user said of it.
        content: config.json.
        config: The model.
        gathered: Its tensors.
        preprocessor: Content of preprocessor_config.json; empty if there is none.
    """

    directory: Path
    settings: PolicyFile
    content: Mapping[str, Any]
    config: MoxinConfig
    gathered: Gathered
    preprocessor: Mapping[str, Any]

    def statistics_content(self) -> dict[str, Any]:
        """Return every entry of the statistics; `dataset_statistics.json` wins over config.json.

        Raises:
            CheckpointError: There are none.
        """
        file = self.directory / _STATISTICS
        released = OURS not in self.content
        if released and not file.is_file() and self.content.get("norm_stats"):
            return dict(self.content["norm_stats"])
        return load_statistics(file)

    def statistics(self) -> Statistics:
        """Return the chosen statistics; raises CheckpointError if they do not fit the model."""
        config = self.config
        entry = select_entry(self.statistics_content(), config.statistics_key)
        return parse_statistics(entry, config.norm_type, config.action_dim, config.proprio_dim)

    def tokenizer(self) -> PromptTokenizer:
        """Return the tokenizer; raises CheckpointError if it does not fit the trunk."""
        return PromptTokenizer(load_tokenizer(self.tokenizer_file()), self.config)

    def tokenizer_file(self) -> Path:
        """Return where the tokenizer is."""
        named = self.settings.tokenizer
        path = self.directory if named is None else Path(named)
        return path / "tokenizer.json" if path.is_dir() else path

    def preprocessing(self) -> dict[str, Any]:
        """Return the steps before normalisation that its own file does not say."""
        released = {} if OURS in self.content else released_preprocessing(self.config)
        return {**released, **self.settings.preprocessing}

    def problems(self) -> list[str]:
        """Return what does not fit between weights and config: missing, unexpected, wrong shape.

        Each entry is a line; empty if every tensor is accounted for.
        """
        with torch.device("meta"):
            expected = MoxinVLA(self.config).state_dict()
        shapes = {name: tuple(tensor.shape) for name, tensor in expected.items()}
        return mismatches(shapes, used(self.gathered.weights, self.config))

    def check_weights(self) -> None:
        """Raise CheckpointError if a tensor is missing, unexpected or of the wrong shape."""
        if problems := self.problems():
            raise CheckpointError(
                f"The weights in '{self.directory}' don't fit its config.json.\n  "
                + "\n  ".join(problems)
            )

    def fingerprint(self) -> str:
        """Return 16 hex digits of the sha256 over all files that determine the answer."""
        texts = [self.directory / name for name in _TEXT_FILES]
        files = [*self.gathered.files, *(file for file in texts if file.is_file())]
        with ThreadPoolExecutor() as pool:
            hashes = list(pool.map(hash_file, files))
        digest = hashlib.sha256()
        for file, value in zip(files, hashes, strict=True):
            digest.update(file.name.encode() + b"\0" + value)
        said = {**self.settings.config, "preprocessing": dict(self.settings.preprocessing)}
        if any(said.values()):
            digest.update(repr(sorted(said.items(), key=lambda item: item[0])).encode())
        return digest.hexdigest()[:16]


def hash_file(file: Path) -> bytes:
    """Return the sha256 of a file."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").digest()


def open_checkpoint(source: str | Path | PolicyFile) -> Opened:
    """Look at a checkpoint.

    Args:
        source: A directory, a Hugging Face id, or what a policy file says.

    Raises:
        CheckpointError: It is not there, damaged, or does not say enough.
    """
    settings = source if isinstance(source, PolicyFile) else PolicyFile(str(source))
    directory = find_checkpoint(settings.checkpoint)
    content = read_json(directory / "config.json")
    if content.get("model_type") == "prismatic":
        raise CheckpointError(
            f"'{directory}' is a vision-language model without actions. "
            "Ask it questions with: moxin-vla ask"
        )
    base = None if settings.base is None else find_checkpoint(settings.base)
    if OURS in content:
        config = config_from_json(content, settings.config)
        gathered = gather(directory, base, settings.step)
        _require_modules(directory, config, gathered.weights)
    else:
        gathered = gather(directory, base, settings.step)
        config = released_config(content, gathered.weights, settings.config, directory.name)
    file = directory / "preprocessor_config.json"
    preprocessor = read_json(file) if file.is_file() or OURS in content else {}
    return Opened(directory, settings, content, config, gathered, preprocessor)


def _require_modules(directory: Path, config: MoxinConfig, weights: Weights) -> None:
    """Refuse a checkpoint that lacks one of the files that its config asks for."""
    needed = {
        "action_head": config.head != "discrete",
        "proprio_projector": config.proprio_dim > 0,
        "noisy_action_projector": config.head == "diffusion",
        "vision_backbone": config.film,
    }
    for module, wanted in needed.items():
        if wanted and not any(name.startswith(f"{module}.") for name in weights):
            raise CheckpointError(
                f"Expected exactly one file {module}--STEP_checkpoint.pt in '{directory}'. "
                "Found: none"
            )


def used(weights: Weights, config: MoxinConfig) -> Weights:
    """Leave out the tensors of released checkpoints that are never computed here.

    Those are the output vocabulary where no token is decoded, rotary tables, and in each tower the
    blocks past the last used one, the final norm and the pooling.
    """
    return used_by(weights, config.towers, lm_head=config.head == "discrete")


def used_by(weights: Weights, towers: tuple[VisionTowerConfig, ...], lm_head: bool) -> Weights:
    """Do what `used` does, for any model of the family."""
    return {k: stored for k, stored in weights.items() if not _unused(k, towers, lm_head)}


def _unused(name: str, towers: tuple[VisionTowerConfig, ...], lm_head: bool) -> bool:
    if name == "language_model.lm_head.weight":
        return not lm_head
    if name.endswith("rotary_emb.inv_freq"):
        return True
    for tower_name, tower in zip(TOWER_NAMES, towers, strict=False):
        prefix = f"vision_backbone.{tower_name}."
        if name.startswith(prefix):
            part, _, rest = name.removeprefix(prefix).partition(".")
            if part == "blocks":
                return tower.blocks_used <= int(rest.partition(".")[0]) < tower.depth
            return part in ("norm", "attn_pool", "head", "fc_norm")
    return False


def mismatches(expected: Mapping[str, tuple[int, ...]], found: Weights) -> list[str]:
    """Compare names and shapes; returns a line per kind of difference."""
    wrong = [
        f"{name} (found {found[name].shape}, expected {shape})"
        for name, shape in expected.items()
        if name in found and found[name].shape != shape
    ]
    kinds = (
        ("missing", [name for name in expected if name not in found]),
        ("unexpected", [name for name in found if name not in expected]),
        ("wrong shape", wrong),
    )
    return [
        f"{label} {len(names)}: {listed(names[:_SHOWN])}{', ...' if len(names) > _SHOWN else ''}"
        for label, names in kinds
        if names
    ]


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file of a checkpoint; raises CheckpointError if it is missing or no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"The checkpoint is incomplete: '{path}' is missing.") from None
    except json.JSONDecodeError as error:
        raise CheckpointError(f"'{path}' is not valid JSON: {error}") from None
