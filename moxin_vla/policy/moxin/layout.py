"""Every tensor of a checkpoint under one set of names, whatever layout it came in.

The names are those of the released (Hugging Face) layout, with the modules of OpenVLA-OFT's own
files in front: `action_head.`, `proprio_projector.`, `noisy_action_projector.`,
`vision_backbone.`. The layouts are described in docs/how-to/run-openvla-oft.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moxin_vla.core.errors import CheckpointError, listed
from moxin_vla.policy.moxin.lora import (
    adapter_scale,
    is_wrapped,
    merge_adapter,
    merge_wrapped,
    open_adapter,
)
from moxin_vla.policy.moxin.weights import (
    INDEX,
    SINGLE,
    Weights,
    open_pickle,
    open_trunk,
    stored_tensors,
    trunk_files,
)

MODULES = ("action_head", "proprio_projector", "noisy_action_projector", "vision_backbone")
ADAPTER = "lora_adapter"
_RELEASED_LORA = {"lora_alpha": 16, "r": 32}  # OpenVLA-OFT's recipe
_NATIVE_PROJECTOR = {"0": "fc1", "2": "fc2", "4": "fc3"}
_NATIVE_TOWERS = {
    "featurizer": "featurizer",
    "dino_featurizer": "featurizer",
    "siglip_featurizer": "fused_featurizer",
    "clip_featurizer": "fused_featurizer",
}


@dataclass(frozen=True, slots=True)
class Gathered:
    """What a checkpoint directory holds.

    Attributes:
        weights: Every tensor, by its released name.
        files: The files that were looked into.
        notes: What was done on the way, in words.
    """

    weights: Weights
    files: tuple[Path, ...]
    notes: tuple[str, ...] = field(default=())


def is_native(directory: Path) -> bool:
    """True for a run directory of Prismatic's own training code."""
    return bool(list((directory / "checkpoints").glob("*.pt")))


def gather(directory: Path, base: Path | None = None, step: str | None = None) -> Gathered:
    """Look at every tensor of a checkpoint.

    Args:
        directory: The checkpoint.
        base: What an adapter without merged weights was trained on.
        step: Which module files to take if there are several.

    Raises:
        CheckpointError: Files are missing, damaged, or there are several to choose from.
    """
    if is_native(directory):
        return _gather_native(directory, step)
    gathered = _trunk(directory, base)
    weights, files = dict(gathered.weights), list(gathered.files)
    for module in MODULES:
        file = module_file(directory, module, step)
        if file is not None:
            weights |= _module(directory, module, file)
            files.append(file)
    return Gathered(weights, tuple(files), gathered.notes)


def module_file(directory: Path, module: str, step: str | None = None) -> Path | None:
    """Return the file `MODULE--STEP_checkpoint.pt`; None if there is none.

    Raises:
        CheckpointError: There are several and no step was chosen.
    """
    found = sorted(directory.glob(f"{module}--{step or '*'}_checkpoint.pt"))
    if len(found) > 1:
        raise CheckpointError(
            f"Expected exactly one file {module}--STEP_checkpoint.pt in '{directory}'. "
            f"Found: {listed(file.name for file in found)}"
        )
    return found[0] if found else None


def _trunk(directory: Path, base: Path | None) -> Gathered:
    merged = (directory / SINGLE).is_file() or (directory / INDEX).is_file()
    adapter_directory = directory / ADAPTER
    if merged or not adapter_directory.is_dir():
        note = f"{ADAPTER}/ is there too and was left alone: the weights are merged already"
        notes = (note,) if merged and adapter_directory.is_dir() else ()
        return Gathered(open_trunk(directory), tuple(trunk_files(directory)), notes)
    adapter = open_adapter(adapter_directory)
    root = base or Path(adapter.base)
    if not root.is_dir():
        raise CheckpointError(
            f"'{directory}' holds an adapter without its base, which was '{adapter.base}'. "
            "Set base to a directory that has it."
        )
    files = (*trunk_files(root), adapter_directory / "adapter_model.safetensors")
    note = f"LoRA of rank {adapter.rank} merged into {root} with scale {adapter.scale:g}"
    return Gathered(merge_adapter(open_trunk(root), adapter), files, (note,))


def _module(directory: Path, module: str, file: Path) -> Weights:
    """Look at one of OpenVLA-OFT's module files."""
    tensors = stored_tensors(open_pickle(file), file)
    tensors = {name.removeprefix("module."): stored for name, stored in tensors.items()}
    if is_wrapped(tensors):
        tensors = merge_wrapped(tensors, adapter_scale(directory, _RELEASED_LORA))
    if module == "vision_backbone":
        tensors = {unwrapped(name): stored for name, stored in tensors.items()}
    return {f"{module}.{name}": stored for name, stored in tensors.items()}


def wrapped(name: str) -> str:
    """Name a FiLM tower's tensor as the released wrapper does.

    `featurizer.blocks.3.attn.qkv.weight` becomes `featurizer.blocks.3.block.attn.qkv.weight`.
    """
    parts = name.split(".")
    if parts[1] == "blocks" and parts[3] not in ("scale", "shift"):
        parts.insert(3, "block")
    return ".".join(parts)


def unwrapped(name: str) -> str:
    """Undo `wrapped`, and what the wrapper of the whole backbone adds."""
    parts = name.removeprefix("vision_backbone.").split(".")
    if len(parts) > 3 and parts[1] == "blocks" and parts[3] == "block":
        del parts[3]
    return ".".join(parts)


def _gather_native(directory: Path, step: str | None) -> Gathered:
    found = sorted((directory / "checkpoints").glob("*.pt"))
    latest = directory / "checkpoints" / f"{step or 'latest'}-checkpoint.pt"
    file = latest if latest in found else found[0]
    if file is not latest and len(found) > 1:
        raise CheckpointError(
            f"'{directory / 'checkpoints'}' has several checkpoints and no "
            f"latest-checkpoint.pt. Set step to one of: "
            f"{listed(path.name.removesuffix('-checkpoint.pt') for path in found)}"
        )
    content = open_pickle(file)
    parts = content.get("model", content)
    if not isinstance(parts, Mapping) or not {"projector", "llm_backbone"} <= parts.keys():
        raise CheckpointError(
            f"'{file}' is not a Prismatic checkpoint. Expected: model.projector and "
            f"model.llm_backbone. Found: {listed(parts)}"
        )
    return Gathered(_native_names(parts, file), (file,))


def _native_names(parts: Mapping[str, Mapping[str, Any]], file: Path) -> Weights:
    weights: Weights = {}
    for name, stored in stored_tensors(parts["projector"], file).items():
        index, _, rest = name.removeprefix("projector.").partition(".")
        weights[f"projector.{_NATIVE_PROJECTOR.get(index, index)}.{rest}"] = stored
    for name, stored in stored_tensors(parts["llm_backbone"], file).items():
        weights[f"language_model.{name.removeprefix('llm.')}"] = stored
    for name, stored in stored_tensors(parts.get("vision_backbone", {}), file).items():
        tower, _, rest = name.partition(".")
        weights[f"vision_backbone.{_NATIVE_TOWERS.get(tower, tower)}.{timm_name(rest)}"] = stored
    return weights


def timm_name(name: str) -> str:
    """Rename a tensor of a timm tower: layer scales are called `scale_factor` here."""
    return name.replace(".gamma", ".scale_factor")


def native_parts(weights: Weights, towers: int) -> dict[str, dict[str, str]]:
    """Return Prismatic's own names: part -> its name -> ours; the inverse of gathering."""
    numbers = {ours: number for number, ours in _NATIVE_PROJECTOR.items()}
    names = ("dino_featurizer", "siglip_featurizer") if towers == 2 else ("featurizer",)
    parts: dict[str, dict[str, str]] = {"projector": {}, "llm_backbone": {}, "vision_backbone": {}}
    for name in weights:
        module, _, rest = name.partition(".")
        if module == "projector":
            layer, _, kind = rest.partition(".")
            parts["projector"][f"projector.{numbers[layer]}.{kind}"] = name
        elif module == "language_model":
            parts["llm_backbone"][f"llm.{rest}"] = name
        elif module == "vision_backbone":
            tower, _, inner = rest.partition(".")
            theirs = names[0] if tower == "featurizer" else names[1]
            parts["vision_backbone"][f"{theirs}.{inner.replace('.scale_factor', '.gamma')}"] = name
    return parts
