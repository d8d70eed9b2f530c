"""What a policy may ask for at all: beyond it a chunk is refused, not limited."""

import numpy as np
from numpy.typing import NDArray

from moxin_vla.core.clock import NS_PER_S
from moxin_vla.core.embodiment import Embodiment
from moxin_vla.core.types import CommitReason

type Array = NDArray[np.float64]


class ChunkContract:
    """Judges the steps of a chunk by themselves; keeps no state.

    How far the gripper goes at once is not judged: it may go from open to closed in one step, and
    its own limits shape the way between.
    """

    def __init__(self, embodiment: Embodiment) -> None:
        safety = embodiment.safety
        self._judged = judged_joints(embodiment)
        self._lower = embodiment.position_lower - safety.position_margin_rad
        self._upper = embodiment.position_upper + safety.position_margin_rad
        period_s = embodiment.step_ns / NS_PER_S
        self._largest_step = embodiment.velocity_limit * period_s * safety.refuse_factor
        self._start_jump_rad = safety.start_jump_rad

    def judge(self, steps: Array, measured: Array | None, commanded: Array | None) -> CommitReason:
        """Say whether a plan is acceptable.

        Args:
            steps: The steps that would be played, shape (n, D), finite, in [rad].
            measured: Measured pose (D,), if this would be the first motion; else None.
            commanded: The last command, (D,), that the plan goes on from; else None.

        Returns:
            ACCEPTED, START_JUMP or OUT_OF_CONTRACT.
        """
        keep = self._judged
        if np.any((steps < self._lower) | (steps > self._upper)):
            return CommitReason.OUT_OF_CONTRACT
        if measured is not None:
            jump = np.abs(steps[0] - measured)[keep]
            if np.any(jump > self._start_jump_rad):
                return CommitReason.START_JUMP
        elif commanded is not None:
            steps = np.concatenate([commanded[None], steps])
        if np.any((np.abs(np.diff(steps, axis=0)) > self._largest_step)[:, keep]):
            return CommitReason.OUT_OF_CONTRACT
        return CommitReason.ACCEPTED


def judged_joints(embodiment: Embodiment) -> NDArray[np.bool_]:
    """Return which joints are judged, (D,): every one but the gripper."""
    return np.array([name != embodiment.gripper.joint for name in embodiment.joint_names])
