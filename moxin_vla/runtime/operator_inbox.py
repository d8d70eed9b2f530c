"""What the operator says for a tick, kept until that tick comes: for lockstep.

Messages of two nodes about one tick arrive in any order. So that a run is the same every time,
the operator's word for tick T is taken at tick T, and tick T does not begin without it.
"""


class OperatorInbox[M]:
    """Keeps the operator's last word; used from one thread."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget every word."""
        self._word: M | None = None
        self._said_ns = self._done_ns = -1

    def put(self, tick_ns: int, word: M) -> None:
        """Keep a word for the tick at `tick_ns`; a word for an earlier one is too late."""
        if tick_ns >= self._said_ns:
            self._word, self._said_ns = word, tick_ns

    def heard(self, tick_ns: int) -> bool:
        """Return whether the tick at `tick_ns` may begin."""
        return max(self._said_ns, self._done_ns) >= tick_ns

    def take(self, tick_ns: int) -> M | None:
        """Return the word for the tick, the first time that it is asked for."""
        if self._said_ns < tick_ns or self._done_ns >= tick_ns:
            return None
        self._done_ns = tick_ns
        return self._word

    def give_up(self, tick_ns: int) -> None:
        """Let the tick begin without a word."""
        self._done_ns = max(self._done_ns, tick_ns)
