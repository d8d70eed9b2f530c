"""Small models by recipe: moxin-nano, and the same with random weights for tests."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from moxin_vla.core.embodiment import ActionSpace, Embodiment
from moxin_vla.policy.moxin.architecture import TextConfig, VisionTowerConfig
from moxin_vla.policy.moxin.checkpoint import save_checkpoint
from moxin_vla.policy.moxin.config import MoxinConfig
from moxin_vla.policy.moxin.model import MoxinVLA
from moxin_vla.policy.moxin.statistics import fit_statistics
from moxin_vla.policy.moxin.tokenizer import build_tokenizer

_KINDS = ("dino", "siglip")
_SMALL: dict[str, Any] = {
    "image_size": 96,
    "patch_size": 16,
    "towers": [
        {
            "width": 32,
            "blocks": 1,
            "heads": 2,
            "mlp_dim": 64,
            "num_prefix_tokens": 5,
            "layer_scale": True,
        },
        {
            "width": 32,
            "blocks": 1,
            "heads": 2,
            "mlp_dim": 64,
            "num_prefix_tokens": 0,
            "layer_scale": False,
        },
    ],
    "text": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
    },
    "chunk": 16,
}


def nano_config(
    embodiment: Embodiment, tokenizer: Tokenizer, model: dict[str, Any], name: str
) -> MoxinConfig:
    """Build the config of a small model.

    Args:
        embodiment: Gives joints, cameras, rate and action space.
        tokenizer: Gives the vocabulary.
        model: The `model` section of a recipe in `config/policies/`.
        name: Shown in reports.
    """
    size, patch = model["image_size"], model["patch_size"]
    towers = tuple(
        VisionTowerConfig(
            model_id=f"moxin_nano_{kind}_patch{patch}_{size}",
            image_size=size,
            patch_size=patch,
            width=tower["width"],
            depth=tower["blocks"] + 1,  # as released: the last block exists, unused
            heads=tower["heads"],
            mlp_dim=tower["mlp_dim"],
            num_prefix_tokens=tower["num_prefix_tokens"],
            layer_scale=tower["layer_scale"],
            blocks_used=tower["blocks"],
        )
        for kind, tower in zip(_KINDS, model["towers"], strict=True)
    )
    relative = embodiment.action_space is ActionSpace.JOINT_DELTA
    return MoxinConfig(
        name=name,
        towers=towers,
        text=TextConfig(
            model_type="llama", vocab_size=tokenizer.get_vocab_size(), **model["text"]
        ),
        cameras=embodiment.camera_names,
        joints=embodiment.joint_names,
        chunk=model["chunk"],
        control_rate_hz=embodiment.control_rate_hz,
        action_space=embodiment.action_space,
        absolute_dims=(embodiment.gripper_index,) if relative else (),
        film=True,
        action_slots="learned",
        slots_per_step=1,
        action_prefix=model.get("action_prefix", False),
        pad_token_id=tokenizer.token_to_id("<PAD>"),
    )


def write_random_checkpoint(path: Path, embodiment: Embodiment, seed: int = 0) -> None:
    """Write a tiny checkpoint with random weights: for tests of plumbing, not for robots."""
    torch.manual_seed(seed)
    tokenizer = build_tokenizer(["pick up the red cube", "touch the blue cube"])
    model = MoxinVLA(nano_config(embodiment, tokenizer, _SMALL, "random"))
    rng = np.random.default_rng(seed)
    shape = (100, embodiment.dof)
    entry = fit_statistics(rng.uniform(-0.1, 0.1, shape), rng.uniform(-1.0, 1.0, shape))
    save_checkpoint(path, model, {"random": entry}, tokenizer)
