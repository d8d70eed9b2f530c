"""What a checkpoint's model looks like; one code path from a few million parameters to 7 B."""

from dataclasses import dataclass
from typing import Literal, get_args

from moxin_vla.core.embodiment import ActionSpace
from moxin_vla.core.errors import CheckpointError, listed
from moxin_vla.policy.moxin.architecture import TextConfig, VisionTowerConfig

Attention = Literal["bidirectional", "causal"]
NormType = Literal["bounds", "bounds_q99"]
Head = Literal["l1", "diffusion", "discrete"]
Decoding = Literal["parallel", "autoregressive"]
GripperConvention = Literal["joint", "open_is_one", "open_is_zero"]
PROMPT = "In: What action should the robot take to {instruction}?\nOut:"


@dataclass(frozen=True, slots=True)
class MoxinConfig:
    """Everything that shapes the model and its input and output.

    Attributes:
        name: Shown in reports and diagnostics.
        towers: One or two vision towers, fused on channels: DINO-like, then SigLIP-like.
        text: The trunk.
        cameras: Camera names in the order the model sees them.
        joints: Names of the action dims in the model's order: joints, or axes of an end effector.
        proprio_names: Names of the proprio's dims; None if they are `joints`, empty if the model
            reads no proprio.
        chunk: Prediction horizon H, in control steps.
        control_rate_hz: Rate of the steps, in [Hz].
        action_space: How actions are expressed; `joint_delta` is the offset from the
            observation's proprio.
        absolute_dims: Action dims that stay absolute under `joint_delta` (the gripper).
        gripper_convention: What the gripper's action means in the data: a joint target like any
            other, or how far it is open.
        head: `l1` regression, `diffusion`, or `discrete` action tokens.
        decoding: Of discrete tokens: all at once from the slots, or one by one as in OpenVLA.
        diffusion_steps: Denoising steps of one inference, and of training.
        action_bins: Bins of discrete tokens.
        norm_type: Statistics that scale proprio and actions to [-1, 1].
        film: True if every vision block is modulated by the language (OpenVLA-OFT+).
        attention: Mask of the trunk.
        action_slots: `zero` as released, or `learned`: one trained embedding per slot, for trunks
            too shallow to tell slots apart by RoPE alone.
        slots_per_step: Placeholders per control step; None for one per action dim, as released.
        action_prefix: True if the first slots can carry committed actions (training-time RTC,
            arXiv 2512.05964, in the form for parallel decoding).
        statistics_key: Entry of dataset_statistics.json to use; None if there is only one.
        empty_token_id: Overrides the id that is looked up for the piece '▁'.
        llm_max_length: Longest prompt, in tokens.
        vocabulary_padding: Rows of the vocabulary behind the text pieces, which hold no action.
        prompt: Template; `{instruction}` is replaced.
    """

    name: str
    towers: tuple[VisionTowerConfig, ...]
    text: TextConfig
    cameras: tuple[str, ...]
    joints: tuple[str, ...]
    chunk: int
    control_rate_hz: float
    action_space: ActionSpace
    proprio_names: tuple[str, ...] | None = None
    absolute_dims: tuple[int, ...] = ()
    gripper_convention: GripperConvention = "joint"
    head: Head = "l1"
    decoding: Decoding = "parallel"
    diffusion_steps: int = 50
    action_bins: int = 256
    norm_type: NormType = "bounds_q99"
    film: bool = False
    attention: Attention = "bidirectional"
    action_slots: Literal["zero", "learned"] = "zero"
    slots_per_step: int | None = None
    action_prefix: bool = False
    statistics_key: str | None = None
    empty_token_id: int | None = None
    bos_token_id: int = 1
    eos_token_id: int = 2
    pad_token_id: int = 32000
    llm_max_length: int = 2048
    vocabulary_padding: int = 64
    prompt: str = PROMPT

    def __post_init__(self) -> None:
        if not 1 <= len(self.towers) <= 2:
            raise CheckpointError(f"A model has 1 or 2 vision towers. Got: {len(self.towers)}")
        if len({(t.image_size, t.num_patches) for t in self.towers}) != 1:
            raise CheckpointError("Both vision towers must have the same image size and patches.")
        if not self.cameras or not self.joints or self.chunk < 1:
            raise CheckpointError(
                "config.json: cameras and joints must not be empty and chunk must be at least 1. "
                f"Got: {self.cameras}, {self.joints}, {self.chunk}"
            )
        if any(not 0 <= dim < len(self.joints) for dim in self.absolute_dims):
            raise CheckpointError(
                f"config.json: absolute_dims must be in 0..{len(self.joints) - 1}. "
                f"Got: {list(self.absolute_dims)}"
            )
        _choose("attention", self.attention, ("bidirectional", "causal"))
        _choose("norm_type", self.norm_type, ("bounds", "bounds_q99"))
        _choose("action_slots", self.action_slots, ("zero", "learned"))
        _choose("head", self.head, ("l1", "diffusion", "discrete"))
        _choose("decoding", self.decoding, ("parallel", "autoregressive"))
        _choose("gripper_convention", self.gripper_convention, get_args(GripperConvention))
        if self.decoding == "autoregressive" and (
            self.head != "discrete" or self.attention != "causal"
        ):
            raise CheckpointError(
                "config.json: autoregressive decoding needs the discrete head and causal "
                f"attention. Got: head {self.head}, attention {self.attention}"
            )
        if "{instruction}" not in self.prompt:
            raise CheckpointError(
                f"config.json: prompt must contain {{instruction}}. Got: {self.prompt!r}"
            )

    @property
    def action_dim(self) -> int:
        """Values per action."""
        return len(self.joints)

    @property
    def proprio_dim(self) -> int:
        """Values of the proprio; 0 without."""
        return len(self.joints if self.proprio_names is None else self.proprio_names)

    @property
    def vision_tokens_end(self) -> int:
        """Tokens P in front of the prompt without BOS: vision, proprio, diffusion timestep."""
        return self.num_patches + (self.proprio_dim > 0) + (self.head == "diffusion")

    @property
    def num_images(self) -> int:
        """Cameras N."""
        return len(self.cameras)

    @property
    def image_size(self) -> int:
        """Side of the square input images, in pixels."""
        return self.towers[0].image_size

    @property
    def num_patches(self) -> int:
        """Vision tokens of all images."""
        return self.num_images * self.towers[0].num_patches

    @property
    def vision_width(self) -> int:
        """Channels of the fused towers."""
        return sum(tower.width for tower in self.towers)

    @property
    def num_action_slots(self) -> int:
        """Placeholders A = chunk * slots_per_step."""
        return self.chunk * self.step_slots

    @property
    def step_slots(self) -> int:
        """Placeholders per control step."""
        return self.slots_per_step or self.action_dim


def _choose(field_name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise CheckpointError(
            f"Unknown {field_name} '{value}' in config.json. Choose from: {listed(choices)}"
        )
