"""Requests for plans, one at a time: when one is due, and when its answer becomes visible.

tick      k     k+1   k+2   k+3
       request         ^ visible at T_k + d * step_ns, here d = 2

The rule is shared: the in-process runner and policy_node ask by it, control_node in lockstep knows
by it which chunk to wait for.
"""

from moxin_vla.core.protocols import Joiner
from moxin_vla.core.types import ActionChunk
from moxin_vla.runtime.delay import DelayTrace
from moxin_vla.runtime.schedule import ReplanSchedule


class Requests:
    """Keeps the one request that is under way. Used from one thread; asks no clock.

    Args:
        joiner: Says when plans are due, by `waits` and `every_step`.
        execution_horizon: Steps s between plans.
        step_ns: Control period, in [ns].
        delays: Injected delays; None if answers are visible when they come.
    """

    def __init__(
        self,
        joiner: Joiner,
        execution_horizon: int,
        step_ns: int,
        delays: DelayTrace | None = None,
    ) -> None:
        self._schedule = ReplanSchedule(1 if joiner.every_step else execution_horizon, step_ns)
        self._step_ns, self._delays = step_ns, delays
        self._play_ns = execution_horizon * step_ns if joiner.waits else 0
        self.reset()

    def reset(self) -> None:
        """Start an episode: nothing is under way, the next observation is due."""
        self._schedule.reset()
        self._count = 0
        self._asked_ns: int | None = None
        self._last_asked_ns, self._resume_ns = 0, 0

    @property
    def asked_ns(self) -> int | None:
        """Capture time of the observation that is being planned from, in [ns]; None if none is."""
        return self._asked_ns

    @property
    def visible_ns(self) -> int | None:
        """When the answer under way becomes visible, in [ns]; None if none is, or any time."""
        if self._asked_ns is None or self._delays is None:
            return None
        return self._asked_ns + self._delays.at(self._count - 1) * self._step_ns

    def due(self, time_ns: int) -> bool:
        """Return whether to ask for a plan from the observation captured at `time_ns`.

        Requests from later than that were made before the clock went back: they are forgotten.
        """
        if time_ns < self._last_asked_ns:
            self.reset()
        free = self._asked_ns is None and time_ns >= self._resume_ns
        return free and self._schedule.due(time_ns)

    def ask(self, time_ns: int) -> None:
        """Note that a plan from the observation captured at `time_ns` is under way."""
        self._schedule.mark(time_ns)
        self._asked_ns = self._last_asked_ns = time_ns
        self._count += 1

    def visible(self, now_ns: int) -> bool:
        """Return whether an answer is under way that is visible at `now_ns`."""
        visible_ns = self.visible_ns
        return visible_ns is not None and now_ns >= visible_ns

    def land(self, now_ns: int, observed_ns: int | None = None) -> None:
        """Note that the answer arrived at `now_ns`, or that it never will.

        Args:
            now_ns: Control clock, in [ns].
            observed_ns: What the answer was planned from, if not from what was asked: a policy
                that has been restarted begins anew, and the schedule follows it.
        """
        if observed_ns is not None and observed_ns != self._asked_ns:
            self._schedule.mark(observed_ns)
            self._last_asked_ns = observed_ns
        self._resume_ns = now_ns + self._play_ns if self._play_ns else 0
        self._asked_ns = None


class Answers:
    """Chunks that have come, kept until the request that they answer is visible: for lockstep.

    Args:
        requests: What was asked for.
    """

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._chunks: list[ActionChunk] = []

    def reset(self) -> None:
        """Start an episode."""
        self._chunks = []

    def put(self, chunk: ActionChunk) -> None:
        """Keep a chunk that has arrived."""
        self._chunks.append(chunk)

    def first(self) -> ActionChunk | None:
        """Return the chunk that answers the request under way, or a later one; None without."""
        asked_ns = self._requests.asked_ns
        assert asked_ns is not None
        self._chunks = [c for c in self._chunks if c.observation_time_ns >= asked_ns]
        return self._chunks[0] if self._chunks else None

    def take(self) -> None:
        """Let go of what `first` returned."""
        self._chunks.pop(0)
