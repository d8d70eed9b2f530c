"""A tiny model with random weights, shared by the tests of this folder."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from moxin_vla.core.embodiment import Embodiment, load_embodiment
from moxin_vla.core.resources import resource_path
from moxin_vla.core.types import Observation
from moxin_vla.policy.moxin.config import MoxinConfig
from moxin_vla.policy.moxin.presets import nano_config, write_random_checkpoint
from moxin_vla.policy.moxin.tokenizer import build_tokenizer

torch.set_num_threads(1)

_MODEL = {
    "image_size": 24,
    "patch_size": 12,
    "towers": [
        {"width": 16, "heads": 2, "mlp_dim": 24, "num_prefix_tokens": 5, "layer_scale": True},
        {"width": 8, "heads": 1, "mlp_dim": 12, "num_prefix_tokens": 0, "layer_scale": False},
    ],
    "text": {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
    "chunk": 3,
}


@pytest.fixture(scope="session")
def embodiment() -> Embodiment:
    return load_embodiment(resource_path("config/embodiments/so101_sim.yaml"))


@pytest.fixture(scope="session")
def config(embodiment: Embodiment) -> MoxinConfig:
    """Two cameras of 4 patches, chunk 3, FiLM; 24 pixels a side."""
    model = _MODEL | {"towers": [tower | {"blocks": 2} for tower in _MODEL["towers"]]}
    tokenizer = build_tokenizer(["pick up the red cube"])
    return nano_config(embodiment, tokenizer, model, "tiny")


@pytest.fixture(scope="session")
def random_checkpoint(embodiment: Embodiment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only: tests that damage it make their own copy."""
    path = tmp_path_factory.mktemp("checkpoint") / "random"
    write_random_checkpoint(path, embodiment, seed=0)
    return path


@pytest.fixture
def observe(embodiment: Embodiment) -> Callable[..., Observation]:
    """Make an observation with random images; keyword arguments replace fields."""

    def make(**changes: object) -> Observation:
        rng = np.random.default_rng(7)
        images = {
            name: rng.integers(0, 256, (96, 96, 3), dtype=np.uint8)
            for name in embodiment.camera_names
        }
        fields = {
            "time_ns": 1_000,
            "images": images,
            "proprio": np.linspace(-0.3, 0.3, embodiment.dof),
            "instruction": "pick up the red cube",
        }
        return Observation(**(fields | changes))

    return make
