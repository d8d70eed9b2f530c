"""config.json: the released field names where they exist, ours under `moxin_vla`."""

from dataclasses import asdict, fields
from typing import Any

from moxin_vla.core.embodiment import ActionSpace
from moxin_vla.core.errors import CheckpointError, listed
from moxin_vla.policy.moxin.config import MoxinConfig, TextConfig, VisionTowerConfig

_OURS = (
    "name",
    "cameras",
    "joints",
    "chunk",
    "control_rate_hz",
    "absolute_dims",
    "norm_type",
    "film",
    "attention",
    "action_slots",
    "slots_per_step",
    "action_prefix",
    "statistics_key",
    "empty_token_id",
    "bos_token_id",
    "eos_token_id",
)
_LATER = ("action_prefix",)  # checkpoints written before these existed take the default


def config_to_json(config: MoxinConfig, statistics: dict[str, Any]) -> dict[str, Any]:
    """Return the content of config.json.

    Args:
        config: The model.
        statistics: Content of `dataset_statistics.json`, repeated as `norm_stats` as released.
    """
    ours = {name: getattr(config, name) for name in _OURS}
    return {
        "model_type": "openvla",
        "architectures": ["OpenVLAForActionPrediction"],
        "arch_specifier": "no-align+fused-gelu-mlp",
        "use_fused_vision_backbone": len(config.towers) == 2,
        "timm_model_ids": [tower.model_id for tower in config.towers],
        "image_sizes": [tower.image_size for tower in config.towers],
        "image_resize_strategy": "resize-naive",
        "llm_max_length": config.llm_max_length,
        "pad_token_id": config.pad_token_id,
        "text_config": asdict(config.text),
        "norm_stats": statistics,
        "moxin_vla": {
            **ours,
            "action_space": config.action_space.value,
            "towers": [asdict(tower) for tower in config.towers],
        },
    }


def config_from_json(content: dict[str, Any]) -> MoxinConfig:
    """Build a config from config.json.

    Raises:
        CheckpointError: A field is missing, unknown or inconsistent.
    """
    try:
        ours, text = content["moxin_vla"], content["text_config"]
        known = {field.name for field in fields(TextConfig)}
        values: dict[str, Any] = {
            name: ours[name] for name in _OURS if name in ours or name not in _LATER
        }
        for name in ("cameras", "joints", "absolute_dims"):
            values[name] = tuple(values[name])
        return MoxinConfig(
            **values,
            towers=tuple(VisionTowerConfig(**tower) for tower in ours["towers"]),
            text=TextConfig(**{name: value for name, value in text.items() if name in known}),
            action_space=_action_space(ours["action_space"]),
            llm_max_length=content["llm_max_length"],
            pad_token_id=content["pad_token_id"],
        )
    except KeyError as error:
        raise CheckpointError(f"config.json: the field {error} is missing.") from None
    except TypeError as error:
        raise CheckpointError(f"config.json does not describe a model: {error}") from None


def _action_space(value: str) -> ActionSpace:
    try:
        return ActionSpace(value)
    except ValueError:
        raise CheckpointError(
            f"config.json: unknown action_space '{value}'. "
            f"Choose from: {listed(space.value for space in ActionSpace)}"
        ) from None
