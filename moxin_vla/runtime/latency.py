"""How long planning takes: per stage for people, in whole control steps for planning."""

from collections import deque
from collections.abc import Mapping

import numpy as np

_NS_PER_MS = 1_000_000
_WINDOW = 32  # plans
_STAGE_WINDOW = 200


class DelayEstimate:
    """The worst recent delay, as RTC plans with: a plan that is late costs more than one early.

    Args:
        step_ns: Control period, in [ns].
        extra_ns: Delay that no stamp shows, such as the readout of a camera before its stamp or
            the lag of a motor, in [ns].
        window: How many plans are remembered.
    """

    def __init__(self, step_ns: int, extra_ns: int = 0, window: int = _WINDOW) -> None:
        self._step_ns, self._extra_ns = step_ns, extra_ns
        self._recent: deque[int] = deque(maxlen=window)

    def add(self, delay_ns: int) -> None:
        """Take the time from an observation's capture until its plan arrived, in [ns]."""
        self._recent.append(delay_ns)

    def reset(self) -> None:
        """Forget every delay."""
        self._recent.clear()

    @property
    def steps(self) -> int | None:
        """The worst recent delay in control steps, rounded up; None before the first."""
        if not self._recent:
            return None
        return -(-(max(self._recent) + self._extra_ns) // self._step_ns)


class StageLatencies:
    """Recent durations of each stage of planning, in the order in which stages were first seen.

    Args:
        stages: Names of the stages.
    """

    def __init__(self, stages: tuple[str, ...]) -> None:
        self._recent = {stage: deque[int](maxlen=_STAGE_WINDOW) for stage in stages}

    def add(self, stage: str, duration_ns: int) -> None:
        """Take one duration, in [ns]."""
        self._recent[stage].append(duration_ns)

    def percentiles(self) -> Mapping[str, str]:
        """Return median and 99th percentile of each stage in [ms], such as `decode p50 ms`."""
        return {
            f"{stage} p{share} ms": _percentile_ms(recent, share)
            for stage, recent in self._recent.items()
            for share in (50, 99)
        }


def _percentile_ms(durations: deque[int], share: int) -> str:
    return f"{np.percentile(durations, share) / _NS_PER_MS:.1f}" if durations else "nan"
