"""The model behind the `Policy` protocol: an observation in, absolute joint targets out."""

import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from moxin_vla.core.clock import NS_PER_S
from moxin_vla.core.embodiment import ActionSpace
from moxin_vla.core.errors import CheckpointError, ObservationError, listed
from moxin_vla.core.protocols import PolicySpec
from moxin_vla.core.types import ActionChunk, Observation
from moxin_vla.policy.moxin.checkpoint import Checkpoint, load_checkpoint
from moxin_vla.policy.moxin.model import ActionPrefix


class MoxinPolicy:
    """Runs a checkpoint. Deterministic on one device with one thread; keeps nothing between calls.

    Args:
        checkpoint: What `load_checkpoint` returned.
        device: Torch device, such as `cpu` or `cuda`.

    Raises:
        CheckpointError: The checkpoint's action space can't be turned into joint targets.
    """

    def __init__(self, checkpoint: Checkpoint, device: str = "cpu") -> None:
        config = checkpoint.config
        if config.action_space is ActionSpace.END_EFFECTOR_DELTA:
            raise CheckpointError(
                "The checkpoint's actions are end_effector_delta. This robot takes: "
                "joint_position, joint_delta"
            )
        self._checkpoint, self._device = checkpoint, torch.device(device)
        self._model = checkpoint.model.to(self._device)
        self._step_ns = round(NS_PER_S / config.control_rate_hz)
        self._spec = PolicySpec(
            name=config.name,
            joints=config.joints,
            cameras=config.cameras,
            horizon=config.chunk,
            control_rate_hz=config.control_rate_hz,
            fingerprint=checkpoint.fingerprint,
        )

    @classmethod
    def from_directory(cls, directory: str | Path, device: str = "cpu") -> "MoxinPolicy":
        """Load a checkpoint directory; raises CheckpointError if it is not whole."""
        return cls(load_checkpoint(directory), device)

    @property
    def spec(self) -> PolicySpec:
        """What the checkpoint says of itself."""
        return self._spec

    def reset(self) -> None:
        """Nothing to forget: every chunk depends on its observation alone."""

    def infer(self, observation: Observation) -> ActionChunk:
        """Return the plan for `observation`; see `Policy.infer`."""
        started = time.perf_counter_ns()
        self._check_proprio(observation)
        statistics = self._checkpoint.statistics
        normalised = self._forward(observation)  # (H, D)
        actions = statistics.action.unnormalise(normalised)
        if self._checkpoint.config.action_space is ActionSpace.JOINT_DELTA:
            actions = self._absolute(actions, observation.proprio, 1)
        known = len(self._committed(observation))
        actions[:known] = observation.committed[:known]
        return ActionChunk(
            observation.time_ns, self._step_ns, actions, time.perf_counter_ns() - started
        )

    def _check_proprio(self, observation: Observation) -> None:
        joints = self._spec.joints
        if observation.proprio.shape != (len(joints),):
            raise ObservationError(
                f"The policy needs {len(joints)} joint positions ({listed(joints)}). "
                f"Got: {len(observation.proprio)}"
            )

    @torch.inference_mode()
    def _forward(self, observation: Observation) -> NDArray[np.float64]:
        checkpoint = self._checkpoint
        images = checkpoint.preprocessor.stack(observation.images)[None]
        proprio = checkpoint.statistics.normalise_proprio(observation.proprio)[None]
        ids = torch.tensor([checkpoint.tokenizer.ids(observation.instruction)])
        output = self._model(
            checkpoint.preprocessor.pixel_values(images).to(self._device),
            ids.to(self._device),
            None,
            torch.tensor(proprio, dtype=torch.float32, device=self._device),
            self._prefix(observation),
        )
        return output.actions[0].double().cpu().numpy()

    def _committed(self, observation: Observation) -> NDArray[np.float64]:
        """Return the committed targets that the model can continue, (d, D) in [rad].

        None if it was not trained to; never the whole chunk, which would leave nothing to plan.
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
