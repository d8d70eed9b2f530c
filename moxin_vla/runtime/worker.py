"""A thread that runs the policy: newest observation wins, one at a time."""

import threading
from collections.abc import Callable

from moxin_vla.core.protocols import Policy
from moxin_vla.core.types import ActionChunk, Observation


class InferenceWorker:
    """Owns the policy; `submit` and `reset` return at once, results arrive in `on_chunk` on the worker's thread.

    Args:
        policy: Called from this thread only.
        on_chunk: Called with a chunk, or with None and what the policy raised. A result that `reset` overtook is dropped.
    """

    def __init__(
        self, policy: Policy, on_chunk: Callable[[ActionChunk | None, Exception | None], None]
    ) -> None:
        self._policy, self._on_chunk = policy, on_chunk
        self._condition = threading.Condition()
        self._pending: Observation | None = None
        self._session, self._reset_due, self._busy, self._closing = 0, True, False, False
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """True while an observation is waiting or being planned from."""
        return self._busy or self._pending is not None

    def submit(self, observation: Observation) -> None:
        """Plan from this observation next; one that still waits is replaced."""
        with self._condition:
            self._pending = observation
            self._condition.notify()

    def reset(self) -> None:
        """Start an episode: what waits or runs is void, and the policy is reset before the next plan."""
        with self._condition:
            self._session += 1
            self._pending, self._reset_due = None, True

    def close(self) -> None:
        """End the thread; waits for a running plan."""
        with self._condition:
            self._closing = True
            self._session += 1
            self._condition.notify()
        self._thread.join(timeout=10.0)

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._pending is not None or self._closing)
                if self._closing:
                    return
                observation, self._pending = self._pending, None
                assert observation is not None
                session, reset_due = self._session, self._reset_due
                self._reset_due, self._busy = False, True
            chunk, error = self._plan(observation, reset_due)
            with self._condition:
                self._busy = False
                current = session == self._session
            if current:
                self._on_chunk(chunk, error)

    def _plan(
        self, observation: Observation, reset_due: bool
    ) -> tuple[ActionChunk | None, Exception | None]:
        try:
            if reset_due:
                self._policy.reset()
            return self._policy.infer(observation), None
        except (
            Exception
        ) as error:  # whatever a policy raises is counted and reported, and the node lives
            return None, error
