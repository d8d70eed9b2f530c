"""Can an arm move so? Steps beyond the speed of its joints, or far beyond all others."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from moxin_vla.core import dataset as keys
from moxin_vla.core.clock import NS_PER_S
from moxin_vla.recording.quality.expected import Expected, robust_range
from moxin_vla.recording.quality.findings import Finding, Severity, where_rows
from moxin_vla.recording.stored import StoredDataset, StoredEpisode

_ALLOWED = 1.05  # of the velocity limit: float32 and stamps round
_FAR = 0.3  # of a joint's range in one step
_OUTLIER = 8.0  # times the 95 % quantile of all steps
_STATES = 3  # different values in all, at most: a switch, such as a gripper that is open or closed
_ADVICE = {
    keys.ACTION: "Rows are missing there, or the command was not limited. Drop the episode.",
    keys.PROPRIO: "A reading was wrong, or an encoder wrapped around. Drop the episode.",
}


def find(dataset: StoredDataset, expected: Expected) -> Iterator[Finding]:
    """Compare every step with the joint's velocity limit, and with all other steps."""
    for key in (keys.ACTION, keys.PROPRIO):
        steps = {e.index: _steps(e, key) for e in dataset.episodes}
        moving = [s for s in steps.values() if len(s)]
        if not moving:
            continue
        usual = np.nanquantile(np.concatenate(moving), 0.95, axis=0)
        allowed = np.maximum(_OUTLIER * usual, _FAR * robust_range(dataset, key))  # (D,)
        allowed[_switches(dataset, key)] = np.inf
        why = "far more than any usual step"
        robot = expected.embodiment
        if robot is not None and allowed.shape == (robot.dof,):
            limit = _ALLOWED * robot.velocity_limit / dataset.fps
            # what is measured overshoots; only what no arm does is an error of the sensor
            allowed = limit if key == keys.ACTION else 2.0 * limit
            why = f"more than the joint's speed allows in 1/{dataset.fps:g} s"
        for episode in dataset.episodes:
            yield from _episode(dataset, episode, key, steps[episode.index], allowed, why)


def _switches(dataset: StoredDataset, key: str) -> NDArray[np.bool_]:
    """Return which dims of a column only take a few values, shape (D,)."""
    values = np.concatenate([v for e in dataset.episodes if (v := e.vector(key)) is not None])
    return np.array([len(np.unique(dim[np.isfinite(dim)])) <= _STATES for dim in values.T])


def _steps(episode: StoredEpisode, key: str) -> NDArray[np.float64]:
    """Return |difference| to the row before, shape (n - 1, D)."""
    values = episode.vector(key)
    return np.empty((0, 0)) if values is None else np.abs(np.diff(values, axis=0))


def _episode(
    dataset: StoredDataset,
    episode: StoredEpisode,
    key: str,
    steps: NDArray[np.float64],
    allowed: NDArray[np.float64],
    why: str,
) -> Iterator[Finding]:
    if not len(steps) or steps.shape[1] != len(allowed):
        return
    ticks = episode.columns.get(keys.TICK_STAMP)
    if ticks is not None:  # where ticks are missing the arm had more time
        periods = np.maximum(np.round(np.diff(ticks.reshape(-1)) * dataset.fps / NS_PER_S), 1)
        steps = steps / periods[:, None]
    too_far = steps > allowed
    for joint in np.flatnonzero(too_far.any(axis=0)):
        rows = np.flatnonzero(too_far[:, joint]) + 1
        yield Finding(
            Severity.ERROR,
            f"jumps {steps[:, joint].max():.2f} in one step, {why}",
            _ADVICE[key],
            episode.index,
            f"{key}.{dataset.labels(key)[joint]}",
            where_rows(rows, dataset.fps),
        )
