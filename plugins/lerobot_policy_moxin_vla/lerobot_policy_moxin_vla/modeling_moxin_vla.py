"""The model behind LeRobot's policy interface.

What LeRobot saves as `pretrained_model` has our checkpoint in `moxin_vla/`: policy_node,
`moxin-vla eval` and every other tool of ours take the folder as it is.
"""

import tempfile
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from lerobot.configs import PreTrainedConfig
from lerobot.policies.pretrained import PreTrainedPolicy
from numpy.typing import NDArray
from torch import Tensor

from lerobot_policy_moxin_vla.configuration_moxin_vla import MoxinVlaConfig
from moxin_vla.core.dataset import ACTION, PROPRIO, image_key
from moxin_vla.core.embodiment import ActionSpace, Embodiment, load_embodiment
from moxin_vla.core.errors import CheckpointError, EmbodimentError, listed
from moxin_vla.core.resources import resource_path
from moxin_vla.policy.lerobot import OURS
from moxin_vla.policy.moxin.model import MoxinVLA
from moxin_vla.policy.moxin.training.fresh import write_fresh
from moxin_vla.policy.moxin.training.trainable import CHANCES, Trainable
from moxin_vla.recording.quality.check import own_expectation
from moxin_vla.recording.quality.expected import Bounds, Reference, expressed_actions
from moxin_vla.recording.stored import StoredDataset

_ROBOT, _RECIPE = "config/embodiments/so101_sim.yaml", "config/policies/moxin_nano.yaml"


class MoxinVlaPolicy(PreTrainedPolicy):
    """A Moxin-VLA model that LeRobot trains and evaluates.

    Args:
        config: What to make.
        dataset_stats: Not used: absolute values say nothing about offsets.
        dataset_meta: The dataset to learn from; needed to begin without a checkpoint.
        folder: Our checkpoint, instead of the one that the config names.

    Raises:
        CheckpointError: There is neither a checkpoint nor a dataset, or it can't be trained.
        EmbodimentError: The dataset has other cameras or joints than the model.
    """

    config_class = MoxinVlaConfig
    name = "moxin_vla"

    def __init__(
        self,
        config: MoxinVlaConfig,
        dataset_stats: dict[str, dict[str, Any]] | None = None,
        dataset_meta: Any | None = None,
        folder: Path | None = None,
        **_: Any,
    ) -> None:
        super().__init__(config)
        source = folder or config.checkpoint
        with tempfile.TemporaryDirectory() as fresh:
            if not source:
                _begin(Path(fresh), config, dataset_meta)
            self._trainable = Trainable(str(source or fresh), crops=config.image_augmentation)
        self.model = self._trainable.model
        _check(self._trainable, config)
        self._queue: deque[Tensor] = deque()

    @classmethod
    def from_pretrained(
        cls,
        pretrained_name_or_path: str | Path,
        *,
        config: PreTrainedConfig | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        **kwargs: Any,
    ) -> "MoxinVlaPolicy":
        """Load what `save_pretrained` wrote: a folder, or the id of a repository."""
        folder = Path(pretrained_name_or_path)
        if not folder.is_dir():
            from huggingface_hub import snapshot_download

            folder = Path(
                snapshot_download(
                    str(pretrained_name_or_path),
                    revision=revision,
                    local_files_only=local_files_only,
                )
            )
        config = config or PreTrainedConfig.from_pretrained(folder)
        if not (folder / OURS).is_dir():
            raise CheckpointError(
                f"'{folder}' has no folder '{OURS}', which those of moxin_vla have."
            )
        policy = cls(config, folder=folder / OURS)
        return policy.to(config.device).eval()

    def _save_pretrained(
        self, save_directory: Path, state_dict: dict[str, Tensor] | None = None
    ) -> None:
        """Write LeRobot's config and, in a folder of its own, our checkpoint."""
        self.config._save_pretrained(save_directory)
        model = self.model
        if state_dict is not None:  # gathered from several processes
            with torch.device("meta"):
                model = MoxinVLA(self._trainable.config)
            own = {k.removeprefix("model."): v for k, v in state_dict.items()}
            model.load_state_dict(own, assign=True)
        self._trainable.save(save_directory / OURS, model)

    def get_optim_params(self) -> list[torch.nn.Parameter]:
        """Return what learns: everything."""
        return [p for p in self.parameters() if p.requires_grad]

    def reset(self) -> None:
        """Forget the plan."""
        self._queue.clear()

    def forward(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, float]]:
        """Return the mean error of all steps within their episodes, and the same for the log.

        Args:
            batch: LeRobot's: images (B, 3, h, w) in [0, 1], proprio (B, D), `action` (B, H, D),
                `action_is_pad` (B, H), `task`.
        """
        augment = self.config.image_augmentation and self.training
        chance = torch.rand(len(batch[ACTION]), CHANCES) if augment else None
        errors = self._trainable.errors(
            self._images(batch),
            _array(batch[PROPRIO]),
            _array(batch[ACTION]),
            batch["task"],
            chance,
        )  # (B, H)
        inside = torch.ones_like(errors)
        if "action_is_pad" in batch:
            inside = (~batch["action_is_pad"]).to(errors)
        loss = (errors * inside).sum() / inside.sum().clamp(min=1)
        return loss, {"l1": float(loss.detach())}

    def predict_action_chunk(self, batch: dict[str, Any], **_: Any) -> Tensor:
        """Return absolute joint targets, shape (B, H, D), in [rad]."""
        self.eval()
        chunk = self._trainable.predict(self._images(batch), _array(batch[PROPRIO]), batch["task"])
        return torch.from_numpy(chunk).float().to(batch[PROPRIO].device)

    def select_action(self, batch: dict[str, Any], **_: Any) -> Tensor:
        """Return the next step of the present plan, shape (B, D); makes one if it has run out."""
        if not self._queue:
            chunk = self.predict_action_chunk(batch)[:, : self.config.n_action_steps]
            self._queue.extend(chunk.transpose(0, 1))
        return self._queue.popleft()

    def _images(self, batch: dict[str, Any]) -> NDArray[np.uint8]:
        """Return images as our preprocessing takes them, shape (B, N, h, w, 3)."""
        cameras = [batch[image_key(name)] for name in self._trainable.config.cameras]
        stacked = torch.stack(cameras, dim=1).permute(0, 1, 3, 4, 2)
        return (stacked * 255).round().to(torch.uint8).cpu().numpy()


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return tensor.detach().float().cpu().numpy()


def _begin(folder: Path, config: MoxinVlaConfig, meta: Any | None) -> None:
    """Write a checkpoint with random weights and the dataset's statistics."""
    if meta is None:
        raise CheckpointError(
            "moxin_vla begins with a checkpoint (--policy.checkpoint=DIR, or --policy.path=DIR of "
            "one that LeRobot saved) or with a dataset to take statistics from. Got: neither"
        )
    recipe = Path(config.recipe) if config.recipe else resource_path(_RECIPE)
    sizes = yaml.safe_load(recipe.read_text(encoding="utf-8"))["model"]
    sizes["chunk"] = config.chunk_size
    dataset = StoredDataset(Path(meta.root))
    robot = own_expectation(dataset).embodiment
    if config.embodiment or robot is None:
        robot = load_embodiment(config.embodiment or resource_path(_ROBOT))
    _check_robot(dataset, robot)
    vectors = [e.vector(PROPRIO) for e in dataset.episodes]
    actions = [
        expressed_actions(e, _expression(robot, config.chunk_size)) for e in dataset.episodes
    ]
    proprio = np.concatenate([v for v in vectors if v is not None])
    texts = {text for e in dataset.episodes for text in e.instructions if text}
    write_fresh(folder, robot, sizes, sorted(texts), proprio, np.concatenate(actions))


def _expression(robot: Embodiment, horizon: int) -> Reference:
    """Return how the model will express actions: as the robot's checkpoints do."""
    relative = np.full(robot.dof, robot.action_space is ActionSpace.JOINT_DELTA)
    relative[robot.gripper_index] = False
    nothing = Bounds(np.zeros(robot.dof), np.zeros(robot.dof))
    return Reference(
        robot.name,
        robot.joint_names,
        robot.camera_names,
        robot.control_rate_hz,
        horizon,
        nothing,
        None,
        relative,
    )


def _check_robot(dataset: StoredDataset, robot: Embodiment) -> None:
    if dataset.labels(ACTION) != robot.joint_names or dataset.fps != robot.control_rate_hz:
        raise EmbodimentError(
            f"The dataset '{dataset.root}' ({listed(dataset.labels(ACTION))}; {dataset.fps:g} Hz) "
            f"is not one of the robot '{robot.name}' ({listed(robot.joint_names)}; "
            f"{robot.control_rate_hz:g} Hz). Name its embodiment with --policy.embodiment=FILE."
        )


def _check(trainable: Trainable, config: MoxinVlaConfig) -> None:
    """Compare the model with the features that LeRobot will give it."""
    missing = [
        image_key(name)
        for name in trainable.config.cameras
        if image_key(name) not in config.image_features
    ]
    joints = len(trainable.config.joints)
    action = config.action_feature
    if missing or (action is not None and tuple(action.shape) != (joints,)):
        raise EmbodimentError(
            f"The model '{trainable.config.name}' looks at {listed(trainable.config.cameras)} and "
            f"moves {joints} joints. The dataset or environment lacks: {listed(missing)}; its "
            f"action is {tuple(action.shape) if action else 'missing'}."
        )
