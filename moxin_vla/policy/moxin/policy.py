"""The model behind the `Policy` protocol: an observation in, absolute joint targets out."""

import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from moxin_vla.core.clock import NS_PER_S
from moxin_vla.core.embodiment import ActionSpace, Gripper
from moxin_vla.core.errors import CheckpointError, ObservationError, PolicyError, listed
from moxin_vla.core.protocols import PolicySpec
from moxin_vla.core.types import ActionChunk, Observation
from moxin_vla.policy.moxin.checkpoint import Checkpoint, load_checkpoint
from moxin_vla.policy.moxin.config import MoxinConfig
from moxin_vla.policy.moxin.fast import FastModel
from moxin_vla.policy.moxin.model import ActionPrefix
from moxin_vla.policy.moxin.policy_file import PolicyFile
from moxin_vla.policy.moxin.statistics import Statistics


def policy_spec(config: MoxinConfig, statistics: Statistics, fingerprint: str) -> PolicySpec:
    """Return what a checkpoint says of itself."""
    bounds = statistics.proprio
    ranges = tuple(zip(bounds.low.tolist(), bounds.high.tolist(), strict=True))
    in_joint_space = config.action_space is not ActionSpace.END_EFFECTOR_DELTA
    return PolicySpec(
        name=config.name,
        joints=config.joints,
        cameras=config.cameras,
        horizon=config.chunk,
        control_rate_hz=config.control_rate_hz,
        fingerprint=fingerprint,
        proprio_range=ranges if in_joint_space and len(ranges) == len(config.joints) else None,
    )


class MoxinPolicy:
    """Runs a checkpoint. Deterministic on one device with one thread; keeps nothing between calls.

    Args:
        checkpoint: What `load_checkpoint` returned, on its device already.
        gripper: The robot's, for checkpoints that say how far it is open.

    Raises:
        CheckpointError: The checkpoint needs to know the gripper, or it has another name for it.
    """

    def __init__(self, checkpoint: Checkpoint, gripper: Gripper | None = None) -> None:
        config = checkpoint.config
        self._checkpoint, self._gripper = checkpoint, gripper
        self._fast = FastModel(checkpoint.model)
        weight = checkpoint.model.language_model.model.embed_tokens.weight
        self._device, self._dtype = weight.device, weight.dtype
        self._step_ns = round(NS_PER_S / config.control_rate_hz)
        self._gripper_dim = self._find_gripper() if config.gripper_convention != "joint" else None
        self._spec = policy_spec(config, checkpoint.statistics, checkpoint.fingerprint)

    @classmethod
    def load(
        cls, source: str | Path | PolicyFile, device: str = "cpu", gripper: Gripper | None = None
    ) -> "MoxinPolicy":
        """Load a directory, a Hugging Face id or a policy file; raises CheckpointError."""
        return cls(load_checkpoint(source, device), gripper)

    @property
    def spec(self) -> PolicySpec:
        """What the checkpoint says of itself."""
        return self._spec

    @property
    def checkpoint(self) -> Checkpoint:
        """What it runs."""
        return self._checkpoint

    def reset(self) -> None:
        """Nothing to forget: every chunk depends on its observation alone."""

    def infer(self, observation: Observation) -> ActionChunk:
        """Return the plan for `observation`; see `Policy.infer`.

        Raises:
            PolicyError: The checkpoint acts on an end effector: see `actions`.
        """
        config = self._checkpoint.config
        if config.action_space is ActionSpace.END_EFFECTOR_DELTA:
            raise PolicyError(
                f"Policy '{config.name}' acts in end_effector_delta. "
                "Robots here take: joint_position, joint_delta"
            )
        started = time.perf_counter_ns()
        self._check_proprio(observation)
        actions = self.actions(observation)
        if config.action_space is ActionSpace.JOINT_DELTA:
            actions = self._absolute(actions, observation.proprio, 1)
        known = len(self._committed(observation))
        actions[:known] = observation.committed[:known]
        return ActionChunk(
            observation.time_ns, self._step_ns, actions, time.perf_counter_ns() - started
        )

    def actions(self, observation: Observation) -> NDArray[np.float64]:
        """Return a chunk in the checkpoint's own action space and units, shape (H, action_dim).

        The gripper alone is brought to the robot's.
        """
        actions = self._checkpoint.statistics.action.unnormalise(self._forward(observation))
        if self._gripper_dim is not None:
            actions[:, self._gripper_dim] = self._gripper_target(actions[:, self._gripper_dim])
        return actions

    def _find_gripper(self) -> int:
        config, gripper = self._checkpoint.config, self._gripper
        if gripper is None and "gripper" in config.joints:
            return config.joints.index("gripper")
        if gripper is None or gripper.joint not in config.joints:
            raise CheckpointError(
                f"The checkpoint's gripper is '{config.gripper_convention}', and which dim it is "
                f"can't be told. Expected the embodiment's gripper joint among: "
                f"{listed(config.joints)}. Got: {gripper.joint if gripper else 'no embodiment'}"
            )
        return config.joints.index(gripper.joint)

    def _gripper_target(self, value: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn how far the gripper is open into its joint target, (H,) in [rad]."""
        gripper, config = self._gripper, self._checkpoint.config
        share = value if config.gripper_convention == "open_is_one" else 1.0 - value
        share = np.clip(share, 0.0, 1.0)
        if gripper is None:
            return share
        if gripper.threshold is not None:
            share = (share > gripper.threshold).astype(float)
        return gripper.closed + share * (gripper.open - gripper.closed)

    def _check_proprio(self, observation: Observation) -> None:
        joints = self._spec.joints
        if observation.proprio.shape != (len(joints),):
            raise ObservationError(
                f"The policy needs {len(joints)} joint positions ({listed(joints)}). "
                f"Got: {len(observation.proprio)}"
            )

    def _forward(self, observation: Observation) -> NDArray[np.float64]:
        """Return the normalised chunk, shape (H, action_dim)."""
        checkpoint = self._checkpoint
        images = checkpoint.preprocessor.stack(observation.images)[None]
        pixels = checkpoint.preprocessor.pixel_values(images, self._device)
        ids = torch.tensor([checkpoint.tokenizer.ids(observation.instruction)])
        actions = self._fast.predict(
            pixels.to(self._dtype),
            ids.to(self._device),
            self._proprio(observation),
            self._prefix(observation),
        )
        return actions[0].double().cpu().numpy()

    def _proprio(self, observation: Observation) -> torch.Tensor | None:
        if self._checkpoint.config.proprio_dim == 0:
            return None
        proprio = self._checkpoint.statistics.normalise_proprio(observation.proprio)[None]
        return torch.tensor(proprio, dtype=torch.float32, device=self._device)

    def _committed(self, observation: Observation) -> NDArray[np.float64]:
        """Return the committed targets that the model can continue, (d, D) in [rad].

        Empty if it was not trained to; never the whole chunk, which would leave nothing to plan.
        """
        config = self._checkpoint.config
        return observation.committed[: config.chunk - 1 if config.action_prefix else 0]

    def _prefix(self, observation: Observation) -> ActionPrefix | None:
        committed, config = self._committed(observation), self._checkpoint.config
        if len(committed) == 0:
            return None
        if config.action_space is ActionSpace.JOINT_DELTA:
            committed = self._absolute(committed, observation.proprio, -1)
        actions = np.zeros((1, config.chunk, config.action_dim))
        actions[0, : len(committed)] = self._checkpoint.statistics.action.normalise(committed)
        return ActionPrefix(
            torch.tensor(actions, dtype=torch.float32, device=self._device),
            torch.tensor([len(committed)], device=self._device),
        )

    def _absolute(
        self, actions: NDArray[np.float64], proprio: NDArray[np.float64], sign: int
    ) -> NDArray[np.float64]:
        """Add (sign 1) or take away (-1) the pose that offsets start from.

        Absolute dims are targets already.
        """
        targets = actions + sign * proprio
        for dim in self._checkpoint.config.absolute_dims:
            targets[:, dim] = actions[:, dim]
        return targets
