"""Do actions run into limits? There, what the driver wanted is cut off."""

from collections.abc import Iterator

import numpy as np

from moxin_vla.core import dataset as keys
from moxin_vla.recording.quality.expected import Expected, robust_range
from moxin_vla.recording.quality.findings import Finding, Severity, where_rows
from moxin_vla.recording.stored import StoredDataset, StoredEpisode

_AT_RAD = 1e-3
_OFTEN, _FEWEST = 0.05, 5  # of an episode's rows
_BENT = 0.02  # of a joint's range: requests that safety changed by more
_OFTEN_BENT = 0.2


def find(dataset: StoredDataset, expected: Expected) -> Iterator[Finding]:
    """Hold actions against the joint limits, and requests against what safety let through."""
    spread = robust_range(dataset, keys.ACTION)
    for episode in dataset.episodes:
        yield from _at_limits(dataset, episode, expected)
        asked, sent = episode.vector(keys.REQUESTED), episode.vector(keys.ACTION)
        if asked is None or sent is None or asked.shape != sent.shape or not len(sent):
            continue
        bent = (np.abs(asked - sent) > _BENT * np.maximum(spread, 1e-9)).any(axis=1)
        if bent.mean() > _OFTEN_BENT:
            yield Finding(
                Severity.NOTE,
                f"safety changed what was asked for in {bent.mean():.0%} of the rows",
                "`action` is what was let through; the driver asks for more than limits allow.",
                episode.index,
                keys.REQUESTED,
                where_rows(np.flatnonzero(bent), dataset.fps),
            )


def _at_limits(
    dataset: StoredDataset, episode: StoredEpisode, expected: Expected
) -> Iterator[Finding]:
    robot, actions = expected.embodiment, episode.vector(keys.ACTION)
    if robot is None or actions is None or actions.shape[1:] != (robot.dof,) or not len(actions):
        return
    lower, upper = robot.position_lower, robot.position_upper
    at = (actions <= lower + _AT_RAD) | (actions >= upper - _AT_RAD)  # (n, D)
    at[:, robot.gripper_index] = False  # which closes on its limit by design
    for joint in np.flatnonzero((at.mean(axis=0) > _OFTEN) & (at.sum(axis=0) >= _FEWEST)):
        yield Finding(
            Severity.WARNING,
            f"at its position limit in {at[:, joint].mean():.0%} of the rows",
            "The limit, not the driver, decided. Move the scene or the robot's base.",
            episode.index,
            f"{keys.ACTION}.{robot.joint_names[joint]}",
            where_rows(np.flatnonzero(at[:, joint]), dataset.fps),
        )
