"""Small checkpoints in the released layouts, with random weights and the real names."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor

from moxin_vla.core.embodiment import ActionSpace
from moxin_vla.policy.moxin.architecture import TextConfig, VisionTowerConfig
from moxin_vla.policy.moxin.checkpoint import split_modules
from moxin_vla.policy.moxin.config import MoxinConfig
from moxin_vla.policy.moxin.model import MoxinVLA
from moxin_vla.policy.moxin.tokenizer import build_tokenizer
from moxin_vla.policy.moxin.vlm import MoxinVLM, VlmConfig

DINO = VisionTowerConfig("vit_large_patch14_reg4_dinov2", 28, 14, 16, 3, 2, 32, 5, True, 2)
SIGLIP = VisionTowerConfig("vit_so400m_patch14_siglip", 28, 14, 24, 3, 3, 40, 0, False, 2)
CLIP = VisionTowerConfig(
    "vit_large_patch14_clip", 28, 14, 16, 3, 2, 24, 1, False, 2, True, True, "gelu", 1e-5
)
KNOWN = (DINO, SIGLIP, CLIP)
LIBERO_ACTIONS = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")


# What a policy file says of these models.
SAID: dict[str, Any] = {
    "cameras": ("front", "wrist"),
    "joints": JOINTS,
    "chunk": 3,
    "control_rate_hz": 20.0,
    "action_space": ActionSpace.JOINT_POSITION,
    "norm_type": "bounds_q99",
}


def tokenizer() -> Tokenizer:
    return build_tokenizer(["pick up the red cube", "push the blue bowl to the left"])


def tiny_config(**changes: Any) -> MoxinConfig:
    """A model of two towers, two layers and grouped queries, for six joints."""
    text = TextConfig("mistral", tokenizer().get_vocab_size(), 32, 48, 2, 4, 2)
    values: dict[str, Any] = {
        "name": "tiny",
        "towers": (DINO, SIGLIP),
        "text": text,
        "cameras": ("front", "wrist"),
        "joints": JOINTS,
        "chunk": 3,
        "control_rate_hz": 20.0,
        "action_space": ActionSpace.JOINT_POSITION,
        "pad_token_id": 3,
        "slots_per_step": 6,
    }
    return MoxinConfig(**(values | changes))


def random_model(config: MoxinConfig | VlmConfig, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    model = MoxinVLM(config) if isinstance(config, VlmConfig) else MoxinVLA(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale = 0.3 if parameter.ndim > 1 else 0.1
            parameter.normal_(std=scale)
            if "norm" in name and name.endswith("weight"):
                parameter.add_(1.0)
    return model.eval()


def unused_tensors(config: MoxinConfig | VlmConfig, lm_head: bool) -> dict[str, Tensor]:
    """What released files hold beyond what is computed."""
    extra = {}
    for name, tower in zip(("featurizer", "fused_featurizer"), config.towers, strict=False):
        for part in ("blocks.2.attn.qkv.weight", "norm.weight", "attn_pool.latent"):
            extra[f"vision_backbone.{name}.{part}"] = torch.randn(tower.width, 2)
    if lm_head:
        shape = (config.text.vocab_size, config.text.hidden_size)
        extra["language_model.lm_head.weight"] = torch.randn(shape)
    return extra


def statistics(actions: int, proprio: int) -> dict[str, Any]:
    """Bounds that differ by dim, the gripper outside the mask."""

    def bounds(size: int) -> dict[str, list[float]]:
        low, high = [-0.5 - i / 10 for i in range(size)], [0.5 + i / 10 for i in range(size)]
        return {"q01": low, "q99": high, "min": low, "max": high}

    mask = [True] * (actions - 1) + [False]
    return {"action": bounds(actions) | {"mask": mask}, "proprio": bounds(proprio)}


def write_released(
    directory: Path,
    config: MoxinConfig,
    model: MoxinVLA,
    keys: tuple[str, ...] = ("tiny_no_noops",),
    shards: int = 1,
) -> Path:
    """Write a directory as OpenVLA-OFT does: no section of ours."""
    directory.mkdir(parents=True, exist_ok=True)
    parts = split_modules(model.state_dict(), film=config.film)
    trunk = parts.pop("") | unused_tensors(config, lm_head=config.head != "discrete")
    write_trunk(directory, trunk, shards)
    for name, tensors in parts.items():
        if tensors:
            torch.save(
                {f"module.{key}": value for key, value in tensors.items()},
                directory / f"{name}--150000_checkpoint.pt",
            )
    entry = statistics(config.action_dim, config.proprio_dim)
    content = {key: entry for key in keys}
    (directory / "dataset_statistics.json").write_text(json.dumps(content))
    (directory / "config.json").write_text(json.dumps(released_json(config, content)))
    tokenizer().save(str(directory / "tokenizer.json"))
    return directory


def write_trunk(directory: Path, tensors: dict[str, Tensor], shards: int) -> None:
    tensors = {key: value.contiguous().clone() for key, value in tensors.items()}
    if shards == 1:
        save_file(tensors, directory / "model.safetensors")
        return
    names = sorted(tensors)
    weight_map = {}
    for index in range(shards):
        file = f"model-{index + 1:05d}-of-{shards:05d}.safetensors"
        mine = names[index::shards]
        save_file({name: tensors[name] for name in mine}, directory / file)
        weight_map |= dict.fromkeys(mine, file)
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def released_json(config: MoxinConfig | VlmConfig, norm_stats: dict) -> dict[str, Any]:
    text = {name: value for name, value in asdict(config.text).items() if name != "rope_theta"}
    return {
        "model_type": "openvla" if isinstance(config, MoxinConfig) else "prismatic",
        "timm_model_ids": [f"{tower.model_id}_28" for tower in config.towers],
        "image_sizes": [28] * len(config.towers),
        "timm_override_act_layers": [None] * len(config.towers),
        "text_config": text,
        "pad_token_id": 3,
        "norm_stats": norm_stats,
    }


def small_towers(monkeypatch: Any) -> None:
    """Give the released timm ids small shapes."""
    from moxin_vla.policy.moxin import towers

    monkeypatch.setattr(towers, "_KNOWN", KNOWN)


def single(config: MoxinConfig, tower: VisionTowerConfig) -> MoxinConfig:
    return replace(config, towers=(tower,))


def write_vlm(directory: Path, seed: int = 0) -> Path:
    """Write a small vision-language model that describes its own towers."""
    tiny = tiny_config()
    config = VlmConfig("tiny-vlm", tiny.towers, tiny.text)
    directory.mkdir(parents=True, exist_ok=True)
    write_trunk(directory, random_model(config, seed).state_dict(), 1)
    content = released_json(config, {}) | {
        "moxin_vla": {"towers": [asdict(tower) for tower in config.towers]}
    }
    (directory / "config.json").write_text(json.dumps(content))
    tokenizer().save(str(directory / "tokenizer.json"))
    return directory
