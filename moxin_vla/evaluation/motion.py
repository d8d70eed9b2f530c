"""How smoothly an episode was commanded: where plans meet, and on the whole."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moxin_vla.evaluation.rollout import EpisodeResult


@dataclass(frozen=True, slots=True)
class Motion:
    """Smoothness of the commands of one episode; the gripper is left out.

    Attributes:
        jumps_rad: At each tick at which a plan followed another one, by how much the step of the
            fastest changing joint differs from the step before, in [rad].
        jerk_rms: Root mean square of the commands' third difference over joints and ticks, in
            [rad/s^3]; NaN for fewer than four ticks.
    """

    jumps_rad: tuple[float, ...]
    jerk_rms: float


def motion(result: EpisodeResult, gripper_index: int) -> Motion:
    """Measure an episode's commands.

    A command that goes on as before has no jump, however fast it is: the second difference is what
    the seam adds. The first plan follows none and does not count.
    """
    arm = np.delete(result.commands, gripper_index, axis=1)  # (T, D - 1)
    bends = np.abs(np.diff(arm, n=2, axis=0)).max(axis=1, initial=0.0)  # (T - 2,)
    jumps = (bends[tick - 2] for tick in result.landed[1:] if 2 <= tick < len(arm))
    return Motion(tuple(float(jump) for jump in jumps), _jerk(arm, result.step_ns / 1e9))


def _jerk(arm: NDArray[np.float64], step_s: float) -> float:
    if len(arm) < 4:
        return float("nan")
    return float(np.sqrt(np.mean((np.diff(arm, n=3, axis=0) / step_s**3) ** 2)))
