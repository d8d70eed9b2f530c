"""From the config.json of a released checkpoint to a config here.

Released files leave out much of what decides whether a robot moves right: chunk, cameras, rates,
the convention of the gripper. What the weights tell is read from their shapes; the rest comes from
a policy file, or, for the one platform that all of it is known of, from `_LIBERO`. Nothing else
has a default.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from moxin_vla.core.embodiment import ActionSpace
from moxin_vla.core.errors import CheckpointError, listed
from moxin_vla.policy.moxin.architecture import TextConfig, VisionTowerConfig
from moxin_vla.policy.moxin.config import Head, MoxinConfig
from moxin_vla.policy.moxin.towers import known_tower, native_text, native_towers
from moxin_vla.policy.moxin.weights import Weights

# The reference's defaults for fields that text_config leaves out (transformers' own).
_TEXT_DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": {
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "vocab_size": 32000,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
    },
    "mistral": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 32000,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
    },
}
# What OpenVLA-OFT's code fixes for LIBERO (prismatic/vla/constants.py, run_libero_eval.py).
_LIBERO: dict[str, Any] = {
    "cameras": ("primary", "wrist"),
    "joints": ("x", "y", "z", "roll", "pitch", "yaw", "gripper"),
    "proprio_names": (
        *("x", "y", "z", "axis_angle_x", "axis_angle_y", "axis_angle_z"),
        *("finger_left", "finger_right"),
    ),
    "chunk": 8,
    "control_rate_hz": 20.0,
    "action_space": ActionSpace.END_EFFECTOR_DELTA,
    "gripper_convention": "open_is_one",
    "norm_type": "bounds_q99",
    "attention": "bidirectional",
}
_NEEDED = ("cameras", "joints", "chunk", "control_rate_hz", "action_space", "norm_type")
_HEAD_KEYS: dict[str, Head] = {
    "action_head.model.": "l1",
    "action_head.noise_predictor.": "diffusion",
}


@dataclass(frozen=True, slots=True)
class Shapes:
    """What the shapes of the weights tell.

    Attributes:
        head: Kind of the head; None without one.
        action_dim: Values per action; None without a head.
        slots_per_step: Placeholders per control step; None without a head.
        proprio_dim: Values of the proprio; 0 without a projector.
        film: True if the vision blocks are modulated.
    """

    head: Head | None
    action_dim: int | None
    slots_per_step: int | None
    proprio_dim: int
    film: bool


def read_shapes(weights: Weights) -> Shapes:
    """Look at the shapes of head, projector and towers."""
    head, action_dim, slots = None, None, None
    for prefix, kind in _HEAD_KEYS.items():
        stem = prefix if kind == "l1" else f"{prefix}mlp_resnet."
        if f"{stem}fc2.weight" in weights:
            head, (action_dim, hidden) = kind, weights[f"{stem}fc2.weight"].shape
            slots = weights[f"{stem}layer_norm1.weight"].shape[0] // hidden
    proprio = weights.get("proprio_projector.fc1.weight")
    film = any(name.startswith("vision_backbone.") and ".scale.weight" in name for name in weights)
    return Shapes(head, action_dim, slots, proprio.shape[1] if proprio else 0, film)


def is_libero(shapes: Shapes) -> bool:
    """True for the dims that only OpenVLA-OFT's LIBERO checkpoints have."""
    return shapes.action_dim == 7 and shapes.proprio_dim == 8


def released_config(
    content: Mapping[str, Any], weights: Weights, overrides: Mapping[str, Any], name: str
) -> MoxinConfig:
    """Build the config of a checkpoint that has no section of ours.

    Args:
        content: config.json, of the released or the native layout.
        weights: For what their shapes tell.
        overrides: Fields of `MoxinConfig` from a policy file; they win.
        name: Shown in reports, unless overridden.

    Raises:
        CheckpointError: A field is missing that neither weights nor policy file tell, or they
            contradict each other.
    """
    shapes = read_shapes(weights)
    towers, text = architecture(content)
    known: dict[str, Any] = {"name": name, "proprio_names": None}
    known |= _LIBERO if is_libero(shapes) else {}
    known |= {
        "towers": towers,
        "text": text,
        "film": shapes.film,
        "attention": known.get("attention", "bidirectional"),
        "head": shapes.head,
        "slots_per_step": shapes.slots_per_step,
        "llm_max_length": content.get("llm_max_length", 2048),
        "pad_token_id": content.get("pad_token_id", 32000),
        "vocabulary_padding": content.get("pad_to_multiple_of", 64),
        "action_bins": content.get("n_action_bins", 256),
    }
    values = known | dict(overrides)
    if values["head"] is None:
        raise CheckpointError(
            "The checkpoint has no action head: action_head--STEP_checkpoint.pt is missing. If it "
            "is an OpenVLA with discrete action tokens, say so in a policy file: head: discrete."
        )
    if missing := [field for field in _NEEDED if field not in values]:
        raise CheckpointError(
            f"The checkpoint does not say: {listed(missing)}. Write a policy file that does; "
            "config/policies/ has examples."
        )
    if not shapes.proprio_dim and "proprio_names" not in overrides:
        values["proprio_names"] = ()
    config = MoxinConfig(**values)
    _check_shapes(config, shapes)
    return config


def released_preprocessing(config: MoxinConfig) -> dict[str, Any]:
    """Return the steps that every released checkpoint was trained with; LIBERO is upside down."""
    steps = {"resize": "lanczos3", "jpeg_round_trip": True, "center_crop": True}
    libero = config.joints == _LIBERO["joints"] and config.cameras == _LIBERO["cameras"]
    return {**steps, "rotate_180": config.cameras if libero else ()}


def _check_shapes(config: MoxinConfig, shapes: Shapes) -> None:
    """Refuse a policy file that the weights contradict."""
    for what, said, found in (
        ("actions", config.action_dim, shapes.action_dim),
        ("proprio values", config.proprio_dim, shapes.proprio_dim),
        ("slots per step", config.step_slots, shapes.slots_per_step),
    ):
        if found is not None and said != found:
            raise CheckpointError(
                f"The weights are for {found} {what}. The policy file or the platform says {said}."
            )
    if shapes.head is not None and config.head != shapes.head:
        raise CheckpointError(
            f"The weights hold the head '{shapes.head}'. The policy file says '{config.head}'."
        )


def architecture(content: Mapping[str, Any]) -> tuple[tuple[VisionTowerConfig, ...], TextConfig]:
    """Return towers and trunk of a released or native config.json.

    Raises:
        CheckpointError: A tower or a trunk is unknown.
    """
    model = content.get("model")
    if isinstance(model, Mapping):  # Prismatic's own run directory
        return native_towers(model["vision_backbone_id"]), native_text(model["llm_backbone_id"])
    for needed in ("timm_model_ids", "image_sizes", "text_config"):
        if needed not in content:
            raise CheckpointError(f"config.json: the field '{needed}' is missing.")
    if described := content.get("moxin_vla", {}).get("towers"):  # towers that timm does not have
        towers = tuple(VisionTowerConfig(**tower) for tower in described)
        return towers, text_config(content["text_config"])
    ids, sizes = content["timm_model_ids"], content["image_sizes"]
    activations = content.get("timm_override_act_layers") or [None] * len(ids)
    towers = tuple(
        known_tower(*of_tower) for of_tower in zip(ids, sizes, activations, strict=True)
    )
    return towers, text_config(content["text_config"])


def text_config(content: Mapping[str, Any]) -> TextConfig:
    """Return the trunk of a `text_config`, with the reference's defaults where it is silent.

    Raises:
        CheckpointError: It is no Llama or Mistral, or scales its rotary angles.
    """
    kind = content.get("model_type")
    if kind not in _TEXT_DEFAULTS:
        raise CheckpointError(
            f"Unknown text_config.model_type '{kind}'. Choose from: {listed(_TEXT_DEFAULTS)}"
        )
    rope = content.get("rope_parameters") or content.get("rope_scaling") or {}
    if rope.get("rope_type", rope.get("type", "default")) != "default":
        raise CheckpointError(f"text_config: scaled rotary angles are not supported. Got: {rope}")
    values = _TEXT_DEFAULTS[kind] | {k: v for k, v in content.items() if v is not None}
    values |= {"rope_theta": rope.get("rope_theta", values["rope_theta"])}
    values.setdefault("num_key_value_heads", values["num_attention_heads"])
    fields = TextConfig.__dataclass_fields__
    return TextConfig(**{name: values[name] for name in fields})
