"""A thread that runs the policy: newest observation wins, one at a time."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from moxin_vla.core.protocols import Policy
from moxin_vla.core.types import ActionChunk, Observation

_JOIN_S = 10.0


@dataclass(frozen=True, slots=True)
class Inference:
    """What came of one observation: a chunk, or what the policy raised; wall time in [ns]."""

    observation_time_ns: int
    chunk: ActionChunk | None
    error: Exception | None
    wall_ns: int


class InferenceWorker:
    """Owns the policy. `submit`, `reset` and `take` return at once and belong to one thread.

    Args:
        policy: Called from the worker's thread only.
        on_ready: Called on the worker's thread when `take` has something; must only wake someone.
    """

    def __init__(self, policy: Policy, on_ready: Callable[[], None]) -> None:
        self._policy, self._on_ready = policy, on_ready
        self._condition = threading.Condition()
        self._pending: Observation | None = None
        self._results: list[Inference] = []
        self._session, self._reset_due, self._busy, self._closing = 0, True, False, False
        self._replaced = 0
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """True while an observation is waiting or being planned from."""
        with self._condition:
            return self._busy or self._pending is not None

    @property
    def replaced(self) -> int:
        """Observations that a newer one replaced before their turn came."""
        return self._replaced

    def submit(self, observation: Observation) -> None:
        """Plan from this observation next; one that still waits is replaced."""
        with self._condition:
            self._replaced += self._pending is not None
            self._pending = observation
            self._condition.notify()

    def reset(self) -> None:
        """Begin an episode: what waits or runs is void; the policy is reset before it plans."""
        with self._condition:
            self._session += 1
            self._pending, self._reset_due = None, True
            self._results.clear()

    def take(self) -> list[Inference]:
        """Return the results since the last call, oldest first; none that a `reset` has voided."""
        with self._condition:
            results, self._results = self._results, []
            return results

    def close(self) -> None:
        """End the thread; waits for a running plan."""
        with self._condition:
            self._closing = True
            self._session += 1
            self._condition.notify()
        self._thread.join(timeout=_JOIN_S)

    def _run(self) -> None:
        while True:
            with self._condition:
                self._busy = False
                self._condition.wait_for(lambda: self._pending is not None or self._closing)
                if self._closing:
                    return
                observation, self._pending, self._busy = self._pending, None, True
                session, reset_due, self._reset_due = self._session, self._reset_due, False
            assert observation is not None
            result = self._plan(observation, reset_due)
            with self._condition:
                current = session == self._session
                if current:
                    self._results.append(result)
                self._busy = False
            if current:
                self._on_ready()

    def _plan(self, observation: Observation, reset_due: bool) -> Inference:
        chunk, error, started_ns = None, None, time.perf_counter_ns()
        try:
            if reset_due:
                self._policy.reset()
            chunk = self._policy.infer(observation)
        except Exception as raised:  # whatever a policy raises is reported, and the node lives
            error = raised
        wall_ns = time.perf_counter_ns() - started_ns
        return Inference(observation.time_ns, chunk, error, wall_ns)
