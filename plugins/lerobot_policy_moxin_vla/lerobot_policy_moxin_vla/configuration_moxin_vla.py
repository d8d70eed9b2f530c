"""What LeRobot's commands can say about the policy: `--policy.NAME=VALUE`."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from lerobot.configs import NormalizationMode, PreTrainedConfig
from lerobot.optim import AdamWConfig


@PreTrainedConfig.register_subclass("moxin_vla")
@dataclass
class MoxinVlaConfig(PreTrainedConfig):
    """A Moxin-VLA model.

    Attributes:
        checkpoint: moxin_vla checkpoint directory to begin with; empty: random weights, of the
            sizes in `recipe`, for the robot in `embodiment`.
        recipe: File with a `model` section; empty: that of moxin-nano.
        embodiment: Robot; empty: the one that the dataset carries along, else the simulated
            SO-101.
        chunk_size: Prediction horizon H; a checkpoint's own wins.
        n_action_steps: Execution horizon s.
        image_augmentation: Random crops and light, as OpenVLA-OFT has them.
    """

    checkpoint: str = ""
    recipe: str = ""
    embodiment: str = ""
    chunk_size: int = 16
    n_action_steps: int = 8
    image_augmentation: bool = False
    optimizer_lr: float = 5.0e-4
    optimizer_weight_decay: float = 0.01
    optimizer_grad_clip_norm: float = 1.0
    # the model scales by its checkpoint's own statistics
    normalization_mapping: dict[str, NormalizationMode] = field(
        default_factory=lambda: dict.fromkeys(
            ("VISUAL", "STATE", "ACTION"), NormalizationMode.IDENTITY
        )
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.checkpoint:
            self.chunk_size = _chunk(Path(self.checkpoint), self.chunk_size)
        if not 0 < self.n_action_steps <= self.chunk_size:
            raise ValueError(
                f"n_action_steps must be from 1 to chunk_size ({self.chunk_size}). "
                f"Got: {self.n_action_steps}"
            )

    def get_optimizer_preset(self) -> AdamWConfig:
        """Return AdamW as our own training has it."""
        return AdamWConfig(
            lr=self.optimizer_lr,
            betas=(0.9, 0.98),
            weight_decay=self.optimizer_weight_decay,
            grad_clip_norm=self.optimizer_grad_clip_norm,
        )

    def get_scheduler_preset(self) -> None:
        """Return None: a constant rate."""
        return None

    def validate_features(self) -> None:
        """Refuse a dataset without images or actions."""
        if not self.image_features or self.action_feature is None:
            raise ValueError("moxin_vla needs images (observation.images.*) and `action`.")

    @property
    def observation_delta_indices(self) -> None:
        """None: it looks at the present only."""
        return None

    @property
    def action_delta_indices(self) -> list[int]:
        """The rows that make a chunk."""
        return list(range(self.chunk_size))

    @property
    def reward_delta_indices(self) -> None:
        """None: there are no rewards."""
        return None


def _chunk(checkpoint: Path, otherwise: int) -> int:
    """Return the horizon that a checkpoint was made for; what is wrong with it comes later."""
    inside = checkpoint / "moxin_vla"  # in a folder that LeRobot saved
    checkpoint = inside if inside.is_dir() else checkpoint
    if not (checkpoint / "config.json").is_file():
        return otherwise
    content = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    return int(content.get("moxin_vla", {}).get("chunk", otherwise))
