"""The vision towers that released checkpoints name, by timm id."""

from dataclasses import replace

from moxin_vla.core.errors import CheckpointError, listed
from moxin_vla.policy.moxin.architecture import TextConfig, VisionTowerConfig


def _tower(model_id: str, patch: int, width: int, depth: int, mlp: int) -> VisionTowerConfig:
    """Return a tower without prefix tokens at 224 pixels; the last block but one is the output."""
    return VisionTowerConfig(
        model_id=model_id,
        image_size=224,
        patch_size=patch,
        width=width,
        depth=depth,
        heads=width // 64 if width != 1152 else 16,
        mlp_dim=mlp,
        num_prefix_tokens=0,
        layer_scale=False,
        blocks_used=depth - 1,
    )


_DINO = replace(
    _tower("vit_large_patch14_reg4_dinov2", 14, 1024, 24, 4096),
    num_prefix_tokens=5,
    layer_scale=True,
)
_CLIP = replace(
    _tower("vit_large_patch14_clip", 14, 1024, 24, 4096),
    num_prefix_tokens=1,
    prefix_positions=True,
    norm_pre=True,
    norm_eps=1e-5,
)
_IMAGENET = replace(
    _tower("vit_large_patch16_224", 16, 1024, 24, 4096), num_prefix_tokens=1, prefix_positions=True
)
_KNOWN = (
    _DINO,
    _CLIP,
    _IMAGENET,
    _tower("vit_so400m_patch14_siglip", 14, 1152, 27, 4304),
    _tower("vit_base_patch16_siglip", 16, 768, 12, 3072),
)
# Prismatic's own names for (pairs of) towers, without the resolution.
_BACKBONES = {
    "dinosiglip-vit-so": ("vit_large_patch14_reg4_dinov2", "vit_so400m_patch14_siglip"),
    "dinoclip-vit-l": ("vit_large_patch14_reg4_dinov2", "vit_large_patch14_clip"),
    "siglip-vit-so400m": ("vit_so400m_patch14_siglip",),
    "siglip-vit-b16": ("vit_base_patch16_siglip",),
    "dinov2-vit-l": ("vit_large_patch14_reg4_dinov2",),
    "clip-vit-l": ("vit_large_patch14_clip",),
    "in1k-vit-l": ("vit_large_patch16_224",),
}
_LLAMA_2 = TextConfig("llama", 32064, 4096, 11008, 32, 32, 32, 1e-5)
_MISTRAL = TextConfig("mistral", 32064, 4096, 14336, 32, 32, 8, 1e-5)
_LANGUAGE_MODELS = {
    "llama2-7b-pure": _LLAMA_2,
    "vicuna-v15-7b": _LLAMA_2,
    "mistral-v0.1-7b-pure": _MISTRAL,
    "moxin-7b-pure": replace(_MISTRAL, num_hidden_layers=36),
}


def known_tower(
    model_id: str, image_size: int, activation: str | None = None
) -> VisionTowerConfig:
    """Return the tower of a timm id at a resolution.

    Args:
        model_id: timm id, such as `vit_so400m_patch14_siglip_224`.
        image_size: Side of the input, in pixels.
        activation: An entry of `timm_override_act_layers`.

    Raises:
        CheckpointError: The tower or the activation is unknown.
    """
    if activation not in (None, "quick_gelu"):
        raise CheckpointError(
            f"Unknown activation '{activation}' of tower '{model_id}'. "
            "Expected: none or quick_gelu"
        )
    for tower in _KNOWN:
        if model_id.startswith(tower.model_id):
            return replace(
                tower,
                model_id=model_id,
                image_size=image_size,
                activation=activation or tower.activation,
            )
    raise CheckpointError(
        f"Unknown vision tower '{model_id}'. Known: "
        f"{listed(tower.model_id + '...' for tower in _KNOWN)}"
    )


def native_towers(backbone_id: str) -> tuple[VisionTowerConfig, ...]:
    """Return the towers of a Prismatic name such as `dinosiglip-vit-so-224px`."""
    name, _, resolution = backbone_id.rpartition("-")
    if name not in _BACKBONES or not resolution.endswith("px"):
        names = listed(f"{known}-224px" for known in _BACKBONES)
        raise CheckpointError(f"Unknown vision_backbone_id '{backbone_id}'. Known: {names}")
    size = int(resolution.removesuffix("px"))
    return tuple(
        known_tower(model_id, size, "quick_gelu" if model_id == _CLIP.model_id else None)
        for model_id in _BACKBONES[name]
    )


def native_text(backbone_id: str) -> TextConfig:
    """Return the trunk of a Prismatic name such as `moxin-7b-pure`."""
    if backbone_id not in _LANGUAGE_MODELS:
        raise CheckpointError(
            f"Unknown llm_backbone_id '{backbone_id}'. Known: {listed(_LANGUAGE_MODELS)}"
        )
    return _LANGUAGE_MODELS[backbone_id]
