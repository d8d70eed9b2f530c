"""Between the layouts: every tensor keeps its values, and hashes say so.

`moxin` is the released layout with everything that a robot needs to know in config.json;
`released` is without; `native` is Prismatic's own run directory.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file
from torch import Tensor

from moxin_vla.core.errors import CheckpointError, listed
from moxin_vla.policy.moxin.checkpoint import split_modules
from moxin_vla.policy.moxin.config_io import OURS, config_to_json
from moxin_vla.policy.moxin.hub import find_checkpoint
from moxin_vla.policy.moxin.layout import gather, native_parts
from moxin_vla.policy.moxin.opening import Opened, open_checkpoint, read_json
from moxin_vla.policy.moxin.policy_file import PolicyFile
from moxin_vla.policy.moxin.released import architecture
from moxin_vla.policy.moxin.vlm import is_vlm
from moxin_vla.policy.moxin.weights import INDEX, SINGLE, Weights

LAYOUTS = ("moxin", "released", "native")
RECORD = "conversion.json"
_SHARD = "5GB"
_SIDE_FILES = ("dataset_statistics.json", "preprocessor_config.json", "tokenizer.json")


@dataclass(frozen=True, slots=True)
class Conversion:
    """What was written.

    Attributes:
        target: Directory.
        tensors: How many.
        digest: sha256 over the names, shapes and values of all tensors.
    """

    target: Path
    tensors: int
    digest: str


def convert_checkpoint(
    source: str | Path | PolicyFile, target: Path, layout: str = "moxin"
) -> Conversion:
    """Write a checkpoint in another layout; nothing in it is left out or rounded.

    Args:
        source: As for `load_checkpoint`; a policy file's fields go into config.json.
        target: New directory.
        layout: One of `LAYOUTS`.

    Raises:
        CheckpointError: The layout is unknown, the target is there already, the source does not
            load, or a file of the copy differs from the source.
    """
    if layout not in LAYOUTS:
        raise CheckpointError(f"Unknown layout '{layout}'. Choose from: {listed(LAYOUTS)}")
    if target.exists() and any(target.iterdir()):
        raise CheckpointError(f"'{target}' is not empty. Choose a new directory.")
    settings = source if isinstance(source, PolicyFile) else PolicyFile(str(source))
    directory = find_checkpoint(settings.checkpoint)
    content = read_json(directory / "config.json")
    opened = None if is_vlm(directory, content) else open_checkpoint(settings)
    gathered = gather(directory) if opened is None else opened.gathered
    if opened is not None:
        opened.check_weights()
    target.mkdir(parents=True, exist_ok=True)
    _copy_side_files(directory, target)
    _write_config(content, opened, target, layout)
    if layout == "native":
        _write_native(gathered.weights, len(architecture_of(content, opened)), target)
    else:
        film = opened is not None and opened.config.film
        _write_released(gathered.weights, film, target)
    return _verify(gathered.weights, target, settings, layout)


def architecture_of(content: Mapping[str, Any], opened: Opened | None) -> tuple:
    """Return the towers of a checkpoint."""
    return architecture(content)[0] if opened is None else opened.config.towers


def tensors_digest(weights: Weights) -> str:
    """Return the sha256 over names, dtypes, shapes and values, whatever files they are in."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].read().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _copy_side_files(directory: Path, target: Path) -> None:
    for name in _SIDE_FILES:
        if (directory / name).is_file():
            shutil.copy(directory / name, target / name)


def _write_config(
    content: Mapping[str, Any], opened: Opened | None, target: Path, layout: str
) -> None:
    written = {key: value for key, value in content.items() if key != OURS}
    if layout == "moxin" and opened is not None:
        written = config_to_json(opened.config, opened.statistics_content())
        _dump(target / "dataset_statistics.json", opened.statistics_content())
        own = {"moxin_vla": {**opened.preprocessor.get(OURS, {}), **opened.preprocessing()}}
        _dump(target / "preprocessor_config.json", {**opened.preprocessor, **own})
    elif opened is not None and "timm_model_ids" not in written and layout == "released":
        written = {k: v for k, v in config_to_json(opened.config, {}).items() if k != OURS}
    elif opened is None and layout != "native" and "timm_model_ids" not in written:
        towers, text = architecture(content)
        written = {
            "model_type": "prismatic",
            "timm_model_ids": [tower.model_id for tower in towers],
            "image_sizes": [tower.image_size for tower in towers],
            "timm_override_act_layers": [
                None if tower.activation == "gelu" else tower.activation for tower in towers
            ],
            "text_config": {name: getattr(text, name) for name in text.__dataclass_fields__},
        }
    _dump(target / "config.json", written)


def _dump(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_released(weights: Weights, film: bool, target: Path) -> None:
    parts = split_modules(weights, film=film)
    trunk = {name: stored.read().contiguous() for name, stored in parts.pop("").items()}
    split = split_torch_state_dict_into_shards(trunk, max_shard_size=_SHARD)
    for file, names in split.filename_to_tensors.items():
        save_file({name: trunk[name] for name in names}, target / file, {"format": "pt"})
    if split.is_sharded:
        _dump(target / INDEX, {"metadata": split.metadata, "weight_map": split.tensor_to_filename})
    else:
        assert (target / SINGLE).is_file()
    for module, stored in parts.items():
        if stored:
            tensors = {name: entry.read().clone() for name, entry in stored.items()}
            torch.save(tensors, target / f"{module}--latest_checkpoint.pt")


def _write_native(weights: Weights, towers: int, target: Path) -> None:
    strange = [name for name in weights if name.partition(".")[0] not in _NATIVE_MODULES]
    if strange:
        raise CheckpointError(
            f"The native layout has no place for heads and proprio. Found: {listed(strange[:5])}"
        )
    parts: dict[str, dict[str, Tensor]] = {
        part: {theirs: weights[ours].read().clone() for theirs, ours in names.items()}
        for part, names in native_parts(weights, towers).items()
        if names
    }
    (target / "checkpoints").mkdir()
    torch.save({"model": parts}, target / "checkpoints" / "latest-checkpoint.pt")


_NATIVE_MODULES = ("vision_backbone", "projector", "language_model")


def _verify(weights: Weights, target: Path, settings: PolicyFile, layout: str) -> Conversion:
    """Read the copy back and compare it with the source, tensor for tensor."""
    before, after = tensors_digest(weights), tensors_digest(gather(target).weights)
    if before != after:
        raise CheckpointError(f"The copy in '{target}' differs from its source. Do not use it.")
    files = sorted(path for path in target.rglob("*") if path.is_file())
    record = {
        "source": Path(settings.checkpoint).name,
        "layout": layout,
        "tensors": len(weights),
        "sha256 of all tensors": before,
        "sha256 of files": {str(file.relative_to(target)): _sha256(file) for file in files},
    }
    _dump(target / RECORD, record)
    return Conversion(target, len(weights), before)


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
