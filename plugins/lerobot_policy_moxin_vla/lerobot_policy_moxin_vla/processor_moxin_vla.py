"""LeRobot's own processing steps: batch, device; nothing is scaled here."""

from typing import Any

from lerobot.processor import make_default_pre_post_processors

from lerobot_policy_moxin_vla.configuration_moxin_vla import MoxinVlaConfig


def make_moxin_vla_pre_post_processors(
    config: MoxinVlaConfig, dataset_stats: dict[str, dict[str, Any]] | None = None
) -> tuple[Any, Any]:
    """Return LeRobot's default pipelines; our statistics are part of the model."""
    return make_default_pre_post_processors(config, dataset_stats)
