"""Action-prefix conditioning: training-time RTC for parallel decoding with an L1 head.

Training-time RTC (arXiv 2512.05964) shows a flow policy the actions that will be played during its
own inference and trains it on the rest of the chunk. Here the first d steps' slots carry them and
the loss leaves them out. At run time the prefix is a former plan, not the expert's, so it is moved
away from the expert's chunk, and the rest of the target leads back from there.
"""

import torch
from torch import Tensor

from moxin_vla.policy.moxin.model import ActionPrefix
from moxin_vla.policy.moxin.training.settings import TrainConfig

_RETURN_STEPS = 3.0  # time constant of the way back to the expert's chunk, in control steps


def committed_prefix(
    target: Tensor,
    config: TrainConfig,
    absolute_dims: tuple[int, ...],
    generator: torch.Generator,
) -> tuple[ActionPrefix, Tensor]:
    """Draw a committed prefix for each sample.

    Args:
        target: Expert's normalised chunks, shape (B, H, D).
        config: How long and how far off prefixes are.
        absolute_dims: Dims that are never moved (the gripper).
        generator: Source of chance.

    Returns:
        The prefix, and the target from its end on, shape (B, H, D).
    """
    batch, horizon, dims = target.shape
    steps = torch.randint(1, config.prefix_steps + 1, (batch,), generator=generator)
    steps *= torch.rand(batch, generator=generator) < config.prefix_share
    offset = torch.randn(batch, 1, dims, generator=generator) * config.prefix_deviation
    offset[..., list(absolute_dims)] = 0
    after = torch.arange(1, horizon + 1) - steps[:, None]  # (B, H), 1 at the first free step
    fading = torch.exp(-after.clamp(min=0) / _RETURN_STEPS) * (steps > 0)[:, None]
    moved = target + offset * fading[..., None]
    return ActionPrefix(moved, steps), moved


def after_prefix(error: Tensor, prefix: ActionPrefix | None) -> Tensor:
    """Return the errors (n, D) of the steps that are not committed, of errors (B, H, D)."""
    if prefix is None:
        return error
    return error[torch.arange(error.shape[1]) >= prefix.steps[:, None]]
