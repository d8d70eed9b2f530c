"""A policy file: which checkpoint, and what its own files do not say.

    checkpoint: moojink/openvla-7b-oft-finetuned-libero-spatial   # directory or Hugging Face id
    cameras: [front, wrist]
    statistics_key: libero_spatial_no_noops
    preprocessing: {rotate_180: [front, wrist]}

Fields are those of `MoxinConfig`, and the ones of `PolicyFile`. What is given wins over the
checkpoint's own config.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from moxin_vla.core.embodiment import ActionSpace
from moxin_vla.core.errors import CheckpointError, listed
from moxin_vla.policy.moxin.config import MoxinConfig

_TUPLES = ("cameras", "joints", "absolute_dims", "proprio_names")
_NOT_OURS = ("towers", "text", "film")  # the weights and config.json say these
DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """What a user says of a checkpoint.

    Attributes:
        checkpoint: Directory or Hugging Face id.
        config: Fields of `MoxinConfig` that win over the checkpoint's.
        preprocessing: Steps that win over preprocessor_config.json; see `preprocess.py`.
        base: Directory of what an unmerged adapter was trained on.
        step: Which module files to take if there are several.
        tokenizer: File or directory of the tokenizer, for checkpoints without.
        dtype: Arithmetic of the model: float32 or bfloat16; None for bfloat16 on a GPU, and what
            the file holds on a CPU.

    Raises:
        CheckpointError: A value is unknown.
    """

    checkpoint: str
    config: Mapping[str, Any] = field(default_factory=dict)
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    base: str | None = None
    step: str | None = None
    tokenizer: str | None = None
    dtype: str | None = None

    def __post_init__(self) -> None:
        if self.dtype not in (None, *DTYPES):
            raise CheckpointError(f"Unknown dtype '{self.dtype}'. Choose from: {listed(DTYPES)}")


def read_policy_file(path: Path) -> PolicyFile:
    """Read a policy file; relative paths in it start at its own folder.

    Raises:
        CheckpointError: It is missing or not YAML, names no checkpoint, or has an unknown field.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"There is no policy file at '{path}'.") from None
    except yaml.YAMLError as error:
        raise CheckpointError(f"'{path}' is not valid YAML: {error}") from None
    if not isinstance(content, dict) or "checkpoint" not in content:
        raise CheckpointError(f"'{path}' must be a mapping with at least: checkpoint")
    own = [f.name for f in fields(PolicyFile) if f.name != "config"]
    of_config = [f.name for f in fields(MoxinConfig) if f.name not in _NOT_OURS]
    if unknown := [name for name in content if name not in (*own, *of_config)]:
        raise CheckpointError(
            f"'{path}': unknown {listed(unknown)}. Known: {listed((*own, *of_config))}"
        )
    values = {name: content[name] for name in own if name in content}
    for name in ("checkpoint", "base", "tokenizer"):
        if isinstance(values.get(name), str):
            values[name] = _beside(path, values[name])
    config = {name: content[name] for name in of_config if name in content}
    return PolicyFile(**values, config=parse_fields(config))


def as_source(text: str) -> str | PolicyFile:
    """Return what a user's text means: a policy file's content, or a directory or id as it is."""
    path = Path(text)
    return read_policy_file(path) if path.suffix in (".yaml", ".yml") else text


def parse_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """Bring fields from YAML or JSON to the types of `MoxinConfig`."""
    parsed = dict(config)
    for name in _TUPLES:
        if parsed.get(name) is not None:
            parsed[name] = tuple(parsed[name])
    if "action_space" in parsed:
        parsed["action_space"] = action_space(parsed["action_space"])
    return parsed


def action_space(value: str) -> ActionSpace:
    """Return the action space of that name; raises CheckpointError for an unknown one."""
    try:
        return ActionSpace(value)
    except ValueError:
        raise CheckpointError(
            f"config.json: unknown action_space '{value}'. "
            f"Choose from: {listed(space.value for space in ActionSpace)}"
        ) from None


def _beside(path: Path, value: str) -> str:
    """Return a path that exists from the policy file's folder on; anything else as it is."""
    candidate = path.parent / value
    return str(candidate.resolve()) if candidate.exists() else value
