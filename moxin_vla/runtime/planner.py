"""The policy's side of the runtime: when to ask, what to show, what will be played meanwhile."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from moxin_vla.core.protocols import Joiner
from moxin_vla.core.types import ActionChunk, Observation
from moxin_vla.runtime.delay import DelayTrace
from moxin_vla.runtime.latency import DelayEstimate
from moxin_vla.runtime.requests import Requests
from moxin_vla.runtime.timeline import Timeline


class Planner:
    """Asks for plans and foretells the steps that are played until they arrive.

    The control loop may run in another process, so the planner keeps a timeline of its own and
    commits to it what it publishes: joining is deterministic, so given the same chunks at the same
    stamps both timelines hold the same plan. What safety changes afterwards is not foretold.
    Used from one thread.

    Args:
        joiner: One that nobody else uses.
        execution_horizon: Steps s between plans.
        dof: Number of joints D.
        step_ns: Control period, in [ns].
        delays: Injected delays; None on a clock that does not wait.
        extra_ns: Delay that no stamp shows, in [ns].
    """

    def __init__(
        self,
        joiner: Joiner,
        execution_horizon: int,
        dof: int,
        step_ns: int,
        delays: DelayTrace | None = None,
        extra_ns: int = 0,
    ) -> None:
        self.requests = Requests(joiner, execution_horizon, step_ns, delays)
        self._joiner, self._delays = joiner, delays
        self._timeline = Timeline(dof, step_ns, joiner)
        self._estimate = DelayEstimate(step_ns, extra_ns)
        self._asked: Observation | None = None

    def reset(self) -> None:
        """Start an episode. Delays of a real clock are remembered: they are the machine's."""
        self.requests.reset()
        self._timeline.reset()
        self._asked = None
        if self._delays is not None:
            self._estimate.reset()

    @property
    def delay_steps(self) -> int:
        """The delay d that the next request is laid out for, in control steps."""
        known = self._estimate.steps
        if known is not None:
            return known
        return 0 if self._delays is None else self._delays.at(0)

    def ask(self, observation: Observation) -> Observation:
        """Begin a request; returns what to show the policy.

        Args:
            observation: What was captured; its `committed` is filled in here.
        """
        committed = self._committed(observation)
        self.requests.ask(observation.time_ns)
        self._asked = replace(observation, committed=committed)
        return self._joiner.ask(self._asked)

    def answer(self, chunk: ActionChunk) -> ActionChunk:
        """Turn the policy's chunk into the plan to publish."""
        assert self._asked is not None
        return self._joiner.answer(self._asked, chunk)

    def land(self, plan: ActionChunk | None, now_ns: int) -> None:
        """Note the arrival of a plan at the control loop, at `now_ns`; None if there is none."""
        asked_ns = self.requests.asked_ns
        if plan is not None and asked_ns is not None:
            self._timeline.commit(plan, now_ns)
            self._estimate.add(now_ns - asked_ns)
        self.requests.land(now_ns)

    def _committed(self, observation: Observation) -> NDArray[np.float64]:
        """Return the targets that are played until the answer comes, (d, D).

        Fewer if the plan ends before; the arm then stands still, and the answer resumes there.
        """
        return self._timeline.upcoming(observation.time_ns, self.delay_steps)
