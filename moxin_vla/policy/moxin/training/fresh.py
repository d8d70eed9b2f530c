"""A small model with random weights and the statistics of a dataset: where training begins without
a checkpoint.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from moxin_vla.core.embodiment import Embodiment
from moxin_vla.policy.moxin.checkpoint import save_checkpoint
from moxin_vla.policy.moxin.model import MoxinVLA
from moxin_vla.policy.moxin.presets import nano_config
from moxin_vla.policy.moxin.statistics import fit_statistics
from moxin_vla.policy.moxin.tokenizer import build_tokenizer


def write_fresh(
    folder: Path,
    embodiment: Embodiment,
    model: dict[str, Any],
    texts: Sequence[str],
    proprio: NDArray[np.floating],
    actions: NDArray[np.floating],
    seed: int = 0,
) -> None:
    """Write a checkpoint that has learned nothing yet.

    Args:
        folder: Where to.
        embodiment: Gives joints, cameras, rate and action space.
        model: Sizes: the `model` section of a recipe in `config/policies/`.
        texts: Instructions that the tokenizer should know.
        proprio: What the robot measured, shape (n, D), in [rad].
        actions: As the model will express them, shape (m, D): offsets for `joint_delta`.
        seed: Of the weights.
    """
    torch.manual_seed(seed)
    tokenizer = build_tokenizer(sorted(texts))
    config = nano_config(embodiment, tokenizer, model, "moxin-nano")
    entry = fit_statistics(np.asarray(actions), np.asarray(proprio))
    save_checkpoint(folder, MoxinVLA(config), {"recorded": entry}, tokenizer)
