"""Policies without a model: for trying a robot's wiring, and for tests. They import no torch."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from moxin_vla.core.embodiment import Embodiment
from moxin_vla.core.errors import PolicyError, listed
from moxin_vla.core.protocols import PolicySpec
from moxin_vla.core.types import ActionChunk, Observation

HORIZON = 16
_SWEEP_RAD, _SWEEP_PERIOD_STEPS = 0.15, 40


class ScriptedPolicy:
    """Plays a formula of the proprio; needs no camera.

    Args:
        name: `hold`, `sweep` (the first joint swings slowly about where it was first seen) or
            `nan` (a good chunk, then only NaN).
        embodiment: Gives joints and control rate.

    Raises:
        PolicyError: The name is unknown.
    """

    def __init__(self, name: str, embodiment: Embodiment) -> None:
        plans: dict[str, Callable[[Observation], NDArray[np.float64]]] = {
            "hold": self._hold,
            "sweep": self._sweep,
            "nan": self._nan,
        }
        if name not in plans:
            raise PolicyError(f"Unknown scripted policy '{name}'. Choose from: {listed(plans)}")
        self._plan, self._step_ns = plans[name], embodiment.step_ns
        self._spec = PolicySpec(
            name=f"scripted:{name}",
            joints=embodiment.joint_names,
            cameras=(),
            horizon=HORIZON,
            control_rate_hz=embodiment.control_rate_hz,
        )
        self.reset()

    @property
    def spec(self) -> PolicySpec:
        """What it needs and gives."""
        return self._spec

    def reset(self) -> None:
        """Forget where the episode began."""
        self._first: Observation | None = None

    def infer(self, observation: Observation) -> ActionChunk:
        """Return the plan for `observation`."""
        if self._first is None:
            self._first = observation
        return ActionChunk(observation.time_ns, self._step_ns, self._plan(observation))

    def _hold(self, observation: Observation) -> NDArray[np.float64]:
        return np.tile(observation.proprio, (HORIZON, 1))

    def _sweep(self, observation: Observation) -> NDArray[np.float64]:
        assert self._first is not None
        start = round((observation.time_ns - self._first.time_ns) / self._step_ns)
        phase = 2 * np.pi * (start + 1 + np.arange(HORIZON)) / _SWEEP_PERIOD_STEPS
        actions = np.tile(self._first.proprio, (HORIZON, 1))
        actions[:, 0] += _SWEEP_RAD * np.sin(phase)
        return actions

    def _nan(self, observation: Observation) -> NDArray[np.float64]:
        assert self._first is not None
        if observation.time_ns == self._first.time_ns:
            return self._hold(observation)
        return np.full((HORIZON, len(self._spec.joints)), np.nan)
