"""Which data belongs to the running episode.

episode 1            | reset |        episode 2
--o----o----o----o---|-------|----o----o---->   stamps
                 ^ newest seen    ^ the first that counts
"""

from collections.abc import Iterable

from moxin_vla.core.clock import seconds_to_ns

CLOCK_WENT_BACK_NS = seconds_to_ns(1.0)


class Cutoff:
    """Admits stamps later than everything seen before the last `cut`.

    A message of the former episode may still wait in an inbox when an episode begins; its stamp
    gives it away. A stamp far before the cut means that the clock was set back, for example
    because the simulator was started again: then everything counts. Used from one thread.

    Args:
        streams: Names of the sources that are watched.
    """

    def __init__(self, streams: Iterable[str]) -> None:
        self._newest_ns = dict.fromkeys(streams, 0)
        self._after_ns = 0

    @property
    def after_ns(self) -> int:
        """Stamp that data must be later than to count, in [ns]."""
        return self._after_ns

    @property
    def seen_ns(self) -> int:
        """Stamp that every stream has reached, in [ns]; 0 if one of them is still silent."""
        return min(self._newest_ns.values())

    def cut(self) -> None:
        """Begin an episode: what is not newer than everything seen so far does not count."""
        self._after_ns = max(self._newest_ns.values())

    def admits(self, time_ns: int, stream: str | None = None) -> bool:
        """Return whether data stamped `time_ns` counts; a stream's name also notes its arrival."""
        if time_ns < self._after_ns - CLOCK_WENT_BACK_NS:
            self._after_ns = 0
            self._newest_ns = dict.fromkeys(self._newest_ns, 0)
        if stream is not None:
            self._newest_ns[stream] = max(self._newest_ns[stream], time_ns)
        return time_ns > self._after_ns
