"""What a dataset is held against: a robot, and the statistics of a checkpoint."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moxin_vla.core import dataset as keys
from moxin_vla.core.embodiment import Embodiment
from moxin_vla.recording.stored import StoredDataset, StoredEpisode


@dataclass(frozen=True, slots=True)
class Bounds:
    """Range of one kind of vector in the data that a checkpoint was trained on.

    Attributes:
        low: Value that the checkpoint maps to -1, usually the 1 % quantile, shape (D,).
        high: Value that it maps to 1, shape (D,).
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Reference:
    """What a checkpoint expects of data.

    Attributes:
        name: The checkpoint.
        names: Names of its action dims.
        cameras: Its cameras.
        control_rate_hz: Its control rate.
        horizon: Steps H of its chunks.
        action: Range of its actions, as the model expresses them.
        proprio: Range of its proprio; None if it reads none.
        relative_dims: Action dims that are offsets from the observation's proprio, shape (D,).
        comparable: False if its actions are not joint positions or offsets of them.
    """

    name: str
    names: tuple[str, ...]
    cameras: tuple[str, ...]
    control_rate_hz: float
    horizon: int
    action: Bounds
    proprio: Bounds | None
    relative_dims: NDArray[np.bool_]
    comparable: bool = True


@dataclass(frozen=True, slots=True)
class Expected:
    """What the user gave to hold the dataset against; either may be missing."""

    embodiment: Embodiment | None = None
    reference: Reference | None = None


def expressed_actions(
    episode: StoredEpisode, reference: Reference, most: int = 100
) -> NDArray[np.float64]:
    """Return an episode's actions as the checkpoint expresses them, shape (n, D).

    For dims that are offsets, every step of the chunks from at most `most` rows is taken against
    the proprio of the chunk's first row.
    """
    actions, proprio = episode.vector(keys.ACTION), episode.vector(keys.PROPRIO)
    if actions is None:
        return np.empty((0, len(reference.names)))
    if proprio is None or not reference.relative_dims.any():
        return actions
    if not actions.shape[1] == proprio.shape[1] == len(reference.names):
        return np.empty((0, len(reference.names)))  # of another robot
    starts = np.unique(np.linspace(0, episode.rows - 1, min(most, episode.rows)).astype(int))
    steps = starts[:, None] + np.arange(reference.horizon)  # (starts, H)
    inside = steps < episode.rows
    chunks = actions[np.minimum(steps, episode.rows - 1)]  # (starts, H, D)
    offsets = np.where(reference.relative_dims, proprio[starts][:, None], 0.0)
    return (chunks - offsets)[inside]


def robust_range(dataset: StoredDataset, key: str) -> NDArray[np.float64]:
    """Return the distance from the 1 % to the 99 % quantile of a column, shape (D,)."""
    parts = [v for e in dataset.episodes if (v := e.vector(key)) is not None and len(v)]
    if not parts:
        return np.empty(0)
    low, high = np.nanquantile(np.concatenate(parts), [0.01, 0.99], axis=0)
    return high - low
