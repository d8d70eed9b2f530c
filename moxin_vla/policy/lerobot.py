"""Any policy that LeRobot trains, from its checkpoint directory: ACT, diffusion, SmolVLA, pi0, ...

Built by LeRobot's own factory with its own processors. A checkpoint knows sizes, not joint names
or rates: those it cannot say are the embodiment's.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moxin_vla.core.dataset import ACTION, PROPRIO, image_key
from moxin_vla.core.embodiment import Embodiment
from moxin_vla.core.errors import CheckpointError, DependencyError, EmbodimentError, listed
from moxin_vla.core.protocols import PolicySpec
from moxin_vla.core.types import ActionChunk, Observation

OURS = "moxin_vla"  # folder with our checkpoint, in those that our plugin saves
_IMAGES = image_key("")
_SEED = 0  # of policies that draw noise: the same observation gives the same chunk


def is_lerobot(source: str) -> bool:
    """Say whether a path is a checkpoint directory of LeRobot (`pretrained_model`)."""
    try:
        content = json.loads((Path(source) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and {"type", "input_features"} <= content.keys()


class LeRobotPolicy:
    """A policy of LeRobot behind our protocol.

    Policies that look at several past observations get the present one for all of them, as LeRobot
    itself does at the beginning of an episode.

    Args:
        directory: Checkpoint directory: `config.json`, `model.safetensors`, processors.
        embodiment: The robot.
        device: Torch device.

    Raises:
        CheckpointError: It is incomplete or can't be built.
        EmbodimentError: Its cameras, image sizes or numbers of joints are another robot's.
        DependencyError: lerobot, or what this policy needs of it, is not installed.
    """

    def __init__(self, directory: Path, embodiment: Embodiment, device: str = "cpu") -> None:
        self._step_ns = embodiment.step_ns
        self._policy, self._before, self._after = _build(directory, device)
        self._config = self._policy.config
        cameras = _check(self._config, embodiment, directory)
        self._several = int(getattr(self._config, "n_obs_steps", 1) or 1)
        steps = [type(step).__name__.lower() for step in self._before.steps]
        self.listens = any("token" in name for name in steps)
        blank = Observation(
            0,
            {c.name: np.zeros((c.height, c.width, 3), np.uint8) for c in embodiment.cameras},
            np.zeros(embodiment.dof),
            "anything",
        )
        self._cameras = cameras
        self._spec = PolicySpec(
            name=f"lerobot {self._config.type}",
            joints=embodiment.joint_names,
            cameras=cameras,
            horizon=len(self._chunk(blank)),
            control_rate_hz=embodiment.control_rate_hz,
            fingerprint=_fingerprint(directory),
        )

    @property
    def spec(self) -> PolicySpec:
        """What it needs and gives."""
        return self._spec

    def reset(self) -> None:
        """Forget everything about the running episode."""
        self._policy.reset()

    def infer(self, observation: Observation) -> ActionChunk:
        """Return the plan for `observation`."""
        return ActionChunk(observation.time_ns, self._step_ns, self._chunk(observation))

    def _chunk(self, observation: Observation) -> NDArray[np.float64]:
        """Return absolute joint targets, shape (H, D), in [rad]."""
        import torch

        batch: dict[str, Any] = {
            PROPRIO: torch.from_numpy(observation.proprio.astype(np.float32)),
            "task": observation.instruction,
        }
        for camera in self._cameras:
            pixels = torch.from_numpy(np.ascontiguousarray(observation.images[camera]).copy())
            batch[image_key(camera)] = pixels.permute(2, 0, 1).float() / 255
        with torch.random.fork_rng(devices=[]), torch.inference_mode():
            torch.manual_seed(_SEED)
            ready = self._before(batch)
            if self._several > 1:
                ready = {key: self._repeated(key, value) for key, value in ready.items()}
            self._policy.reset()
            actions = self._policy.predict_action_chunk(ready)  # (1, H, D)
            steps = [self._after(actions[:, k]) for k in range(actions.shape[1])]
        return np.stack([step.reshape(-1).double().cpu().numpy() for step in steps])

    def _repeated(self, key: str, value: Any) -> Any:
        """Give the present observation for every past one, shape (1, n_obs_steps, ...)."""
        if not key.startswith("observation.") or not hasattr(value, "unsqueeze"):
            return value
        return value.unsqueeze(1).expand(-1, self._several, *value.shape[1:])


def _build(directory: Path, device: str) -> tuple[Any, Any, Any]:
    try:
        from lerobot.configs.policies import PreTrainedConfig
        from lerobot.policies.factory import get_policy_class, make_pre_post_processors
        from lerobot.utils.import_utils import register_third_party_plugins
    except ImportError as error:
        raise DependencyError(
            f"LeRobot's policies need lerobot ({error}). "
            "Install it with: pip install 'moxin_vla[data]'"
        ) from error
    try:
        register_third_party_plugins()
        config = PreTrainedConfig.from_pretrained(directory, local_files_only=True)
        config.device = device
        kind = get_policy_class(config.type)
        policy = kind.from_pretrained(directory, config=config, local_files_only=True)
        before, after = make_pre_post_processors(
            config,
            pretrained_path=str(directory),
            preprocessor_overrides={"device_processor": {"device": device}},
        )
    except ImportError as error:
        raise DependencyError(
            f"The policy in '{directory}' needs a part of lerobot that is missing: {error}"
        ) from error
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise CheckpointError(f"LeRobot can't load '{directory}': {error}") from error
    return policy.eval(), before, after


def _check(config: Any, embodiment: Embodiment, directory: Path) -> tuple[str, ...]:
    """Compare a checkpoint's features with the robot; returns the cameras it looks at."""
    inputs, outputs = config.input_features, config.output_features
    sizes = {camera.name: (3, camera.height, camera.width) for camera in embodiment.cameras}
    cameras = tuple(k.removeprefix(_IMAGES) for k in inputs if k.startswith(_IMAGES))
    wrong = []
    if unknown := [name for name in cameras if name not in sizes]:
        wrong.append(f"cameras: needs {listed(unknown)}, the robot has {listed(sizes)}")
    for name in cameras:
        shape = tuple(inputs[image_key(name)].shape)
        if name in sizes and shape != sizes[name]:
            wrong.append(f"camera {name}: trained on {shape}, the robot gives {sizes[name]}")
    for key, features in ((PROPRIO, inputs), (ACTION, outputs)):
        if key in features and tuple(features[key].shape) != (embodiment.dof,):
            found = tuple(features[key].shape)
            wrong.append(f"{key}: {found}, the robot has {embodiment.dof} joints")
    known = {PROPRIO, *map(image_key, cameras)}
    if other := [key for key in inputs if key not in known]:
        wrong.append(f"inputs that no topic gives: {listed(other)}")
    if wrong:
        raise EmbodimentError(
            f"The policy '{directory}' ({config.type}) does not fit the robot "
            f"'{embodiment.name}':\n  " + "\n  ".join(wrong)
        )
    return cameras


def _fingerprint(directory: Path) -> str:
    digest = hashlib.sha256()
    for file in [*sorted(directory.glob("*.safetensors")), directory / "config.json"]:
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()[:16]
