"""What a checkpoint is, and what would be refused, without reading its weights."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from moxin_vla.core.embodiment import Embodiment
from moxin_vla.core.errors import MoxinVlaError, listed
from moxin_vla.core.protocols import PolicySpec
from moxin_vla.policy.moxin.architecture import TextConfig, VisionTowerConfig
from moxin_vla.policy.moxin.config import MoxinConfig
from moxin_vla.policy.moxin.hub import find_checkpoint
from moxin_vla.policy.moxin.layout import gather
from moxin_vla.policy.moxin.opening import Opened, mismatches, open_checkpoint, read_json, used_by
from moxin_vla.policy.moxin.policy_file import PolicyFile
from moxin_vla.policy.moxin.preprocess import load_preprocessor
from moxin_vla.policy.moxin.statistics import Bounds
from moxin_vla.policy.moxin.vlm import MoxinVLM, is_vlm, vlm_config
from moxin_vla.policy.moxin.weights import Weights

Row = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found.

    Attributes:
        sections: Title -> rows of name and value.
        refusals: What loading would refuse, in its own words; empty if it would load.
    """

    sections: dict[str, list[Row]]
    refusals: list[str]


def inspect_checkpoint(
    source: str | Path | PolicyFile, embodiment: Embodiment | None = None
) -> Inspection:
    """Look at a checkpoint.

    Args:
        source: As for `load_checkpoint`.
        embodiment: Robot to check it against.

    Raises:
        CheckpointError: There is nothing to look at.
    """
    settings = source if isinstance(source, PolicyFile) else PolicyFile(str(source))
    directory = find_checkpoint(settings.checkpoint)
    content = read_json(directory / "config.json")
    if is_vlm(directory, content):
        return _inspect_vlm(directory, content)
    sections: dict[str, list[Row]] = {"files": list(_files(directory))}
    try:
        opened = open_checkpoint(settings)
    except MoxinVlaError as error:
        return Inspection(sections, [str(error)])
    config = opened.config
    sections["files"] += [("note", note) for note in opened.gathered.notes]
    sections["model"] = [*_shape_rows(config.towers, config.text), *_model_rows(config)]
    sections["size"] = _size_rows(opened.gathered.weights, config.towers, config.head)
    refusals: list[str] = []
    for title, rows in (
        ("actions", lambda: _action_rows(opened)),
        ("proprio", lambda: _proprio_rows(opened)),
        ("images", lambda: _image_rows(opened)),
        ("prompt", lambda: _prompt_rows(opened)),
    ):
        _collect(sections, title, rows, refusals)
    refusals += _refusals(opened, embodiment)
    return Inspection(sections, list(dict.fromkeys(refusals)))


def _collect(
    sections: dict[str, list[Row]],
    title: str,
    rows: Callable[[], list[Row]],
    refusals: list[str],
) -> None:
    try:
        sections[title] = rows()
    except MoxinVlaError as error:
        refusals.append(str(error))


def _refusals(opened: Opened, embodiment: Embodiment | None) -> list[str]:
    found = []
    checks: list[Callable[[], object]] = [opened.check_weights, opened.statistics]
    if embodiment is not None:
        checks.append(lambda: _check_robot(opened.config, embodiment))
    for check in checks:
        try:
            check()
        except MoxinVlaError as error:
            found.append(str(error))
    return found


def _check_robot(config: MoxinConfig, embodiment: Embodiment) -> None:
    from moxin_vla.policy.loading import refuse_end_effector

    refuse_end_effector(config, embodiment)
    spec = PolicySpec(
        config.name, config.joints, config.cameras, config.chunk, config.control_rate_hz
    )
    embodiment.check_policy(spec)


def _inspect_vlm(directory: Path, content: dict) -> Inspection:
    config = vlm_config(content, directory.name)
    weights = gather(directory).weights
    with torch.device("meta"):
        state = MoxinVLM(config).state_dict()
    expected = {name: tuple(tensor.shape) for name, tensor in state.items()}
    sections = {
        "files": list(_files(directory)),
        "model": [
            *_shape_rows(config.towers, config.text),
            ("answers questions", "moxin-vla ask"),
        ],
        "size": _size_rows(weights, config.towers, "discrete"),
    }
    return Inspection(sections, mismatches(expected, used_by(weights, config.towers, True)))


def _files(directory: Path) -> Iterator[Row]:
    yield "directory", str(directory)
    for file in sorted(directory.rglob("*")):
        if file.is_file() and file.suffix in (".safetensors", ".pt", ".json"):
            yield str(file.relative_to(directory)), _bytes(file.stat().st_size)


def _shape_rows(towers: tuple[VisionTowerConfig, ...], text: TextConfig) -> list[Row]:
    rows = [
        (
            f"vision tower {index + 1}",
            f"{tower.model_id}: {tower.blocks_used} of {tower.depth} blocks, width {tower.width}, "
            f"{tower.num_patches} patches of {tower.patch_size} px from {tower.image_size} px",
        )
        for index, tower in enumerate(towers)
    ]
    return [
        *rows,
        (
            "trunk",
            f"{text.model_type}: {text.num_hidden_layers} layers, width {text.hidden_size}, "
            f"{text.num_attention_heads} heads, {text.num_key_value_heads} for keys and values, "
            f"vocabulary {text.vocab_size}, norm eps {text.rms_norm_eps:g}",
        ),
    ]


def _model_rows(config: MoxinConfig) -> list[Row]:
    head = config.head if config.head != "discrete" else f"discrete tokens, {config.decoding}"
    return [
        ("attention", config.attention),
        ("head", head),
        ("FiLM", "yes" if config.film else "no"),
        ("continues a committed prefix", "yes" if config.action_prefix else "no"),
    ]


def _size_rows(weights: Weights, towers: tuple[VisionTowerConfig, ...], head: str) -> list[Row]:
    computed = used_by(weights, towers, lm_head=head == "discrete")
    count = sum(stored.numel for stored in computed.values())
    dtypes = sorted({str(stored.dtype).removeprefix("torch.") for stored in computed.values()})
    left = sum(stored.numel for name, stored in weights.items() if name not in computed)
    return [
        ("parameters", f"{count / 1e6:.4g} M in {len(computed)} tensors"),
        ("left out, never computed", f"{left / 1e6:.3g} M"),
        ("stored as", listed(dtypes)),
        ("memory", f"{_bytes(2 * count)} in bfloat16, {_bytes(4 * count)} in float32"),
    ]


def _action_rows(opened: Opened) -> list[Row]:
    config, bounds = opened.config, opened.statistics().action
    return [
        (
            "chunk",
            f"{config.chunk} steps at {config.control_rate_hz:g} Hz "
            f"({config.chunk / config.control_rate_hz:.2f} s)",
        ),
        ("action space", config.action_space.value),
        ("statistics", f"{_keys(opened)}, {config.norm_type}"),
        ("gripper", config.gripper_convention),
        *_ranges(config.joints, bounds),
    ]


def _proprio_rows(opened: Opened) -> list[Row]:
    config = opened.config
    names = config.joints if config.proprio_names is None else config.proprio_names
    return _ranges(names, opened.statistics().proprio) or [("proprio", "not read")]


def _keys(opened: Opened) -> str:
    keys = list(opened.statistics_content())
    chosen = opened.config.statistics_key or keys[0]
    return chosen if len(keys) == 1 else f"{chosen} of {listed(keys)}"


def _ranges(names: tuple[str, ...], bounds: Bounds) -> list[Row]:
    rows = zip(names, bounds.low, bounds.high, bounds.mask, strict=True)
    return [
        (f"  {name}", f"{low:+.4f} to {high:+.4f}" if scaled else "as it is, not scaled")
        for name, low, high, scaled in rows
    ]


def _image_rows(opened: Opened) -> list[Row]:
    loaded = load_preprocessor(opened.preprocessor, opened.config, opened.preprocessing())
    steps = loaded.steps
    return [
        ("cameras, in this order", listed(opened.config.cameras)),
        ("turned by 180 degrees", listed(steps.rotate_180)),
        ("resize", steps.resize),
        ("JPEG round trip", "yes" if steps.jpeg_round_trip else "no"),
        ("centre crop", "yes" if steps.center_crop else "no"),
    ]


def _prompt_rows(opened: Opened) -> list[Row]:
    tokenizer = opened.tokenizer()
    return [
        ("template", repr(opened.config.prompt)),
        ("empty piece", str(tokenizer.empty_id)),
        ("longest", f"{opened.config.llm_max_length} tokens"),
    ]


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
