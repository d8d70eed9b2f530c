"""config.json: the released field names where they exist, ours under `moxin_vla`."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from moxin_vla.core.errors import CheckpointError
from moxin_vla.policy.moxin.architecture import TextConfig, VisionTowerConfig
from moxin_vla.policy.moxin.config import MoxinConfig
from moxin_vla.policy.moxin.policy_file import parse_fields

OURS = "moxin_vla"
_ELSEWHERE = ("towers", "text", "llm_max_length", "pad_token_id")
# Checkpoints written before these existed take the default; everything else must be there.
_LATER = (
    "proprio_names",
    "gripper_convention",
    "head",
    "decoding",
    "diffusion_steps",
    "action_bins",
    "action_prefix",
    "vocabulary_padding",
    "prompt",
)


def config_to_json(config: MoxinConfig, statistics: dict[str, Any]) -> dict[str, Any]:
    """Return the content of config.json.

    Args:
        config: The model.
        statistics: Content of `dataset_statistics.json`, repeated as `norm_stats` as released.
    """
    ours = {name: getattr(config, name) for name in _own_fields()}
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
        OURS: {
            **ours,
            "action_space": config.action_space.value,
            "towers": [asdict(tower) for tower in config.towers],
        },
    }


def config_from_json(
    content: Mapping[str, Any], overrides: Mapping[str, Any] | None = None
) -> MoxinConfig:
    """Build a config from a config.json that has our section.

    Args:
        content: config.json.
        overrides: Fields that win.

    Raises:
        CheckpointError: A field is missing, unknown or inconsistent.
    """
    try:
        ours, text = content[OURS], content["text_config"]
        known = {field.name for field in fields(TextConfig)}
        needed = [name for name in _own_fields() if name in ours or name not in _LATER]
        values = parse_fields({name: ours[name] for name in needed})
        values |= {
            "towers": tuple(VisionTowerConfig(**tower) for tower in ours["towers"]),
            "text": TextConfig(**{name: value for name, value in text.items() if name in known}),
            "llm_max_length": content["llm_max_length"],
            "pad_token_id": content["pad_token_id"],
        }
        return MoxinConfig(**(values | dict(overrides or {})))
    except KeyError as error:
        raise CheckpointError(f"config.json: the field {error} is missing.") from None
    except TypeError as error:
        raise CheckpointError(f"config.json does not describe a model: {error}") from None


def _own_fields() -> list[str]:
    return [field.name for field in fields(MoxinConfig) if field.name not in _ELSEWHERE]
