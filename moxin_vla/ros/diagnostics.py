"""Status and diagnostics as standard messages."""

import time
from collections import Counter, deque
from collections.abc import Mapping
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


def status_message(
    name: str, level: bytes, message: str, values: Mapping[str, Any]
) -> DiagnosticStatus:
    """Build a status; values become text."""
    pairs = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
    return DiagnosticStatus(level=level, name=name, message=message, values=pairs)


def status_values(message: DiagnosticStatus) -> dict[str, str]:
    """Return a status message's values."""
    return {pair.key: pair.value for pair in message.values}


def diagnostics_message(stamp: Any, *statuses: DiagnosticStatus) -> DiagnosticArray:
    """Wrap statuses for /diagnostics."""
    array = DiagnosticArray(status=list(statuses))
    array.header.stamp = stamp
    return array


class Recent:
    """The last few measurements of something, for percentiles."""

    def __init__(self, size: int = 200) -> None:
        self._values: deque[float] = deque(maxlen=size)

    def add(self, value: float) -> None:
        """Take a measurement."""
        self._values.append(value)

    def percentile(self, share: float) -> float:
        """Return a percentile in 0..100; NaN without measurements."""
        return float(np.percentile(self._values, share)) if self._values else float("nan")


class Arrivals:
    """Counts what arrives, by name, and turns the counts into rates."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._since_s = time.monotonic()
        self.rates: dict[str, str] = {}

    def note(self, name: str) -> None:
        """Count one arrival."""
        self._counts[name] += 1

    def measure(self) -> None:
        """Renew `rates`, such as `{"front Hz": "20.0"}`, and count from zero again."""
        now_s = time.monotonic()
        passed_s = max(1e-9, now_s - self._since_s)
        names = self.rates.keys() | {f"{name} Hz" for name in self._counts}
        self.rates = {
            name: f"{self._counts[name.removesuffix(' Hz')] / passed_s:.1f}"
            for name in sorted(names)
        }
        self._counts.clear()
        self._since_s = now_s


class Timings:
    """How long something takes and how regularly it comes, in [ms], over the last few times."""

    def __init__(self, name: str) -> None:
        self._name, self._took, self._period = name, Recent(), Recent()
        self._started_s: float | None = None
        self.values: dict[str, str] = {}

    def start(self) -> None:
        """Note the beginning."""
        now_s = time.monotonic()
        if self._started_s is not None:
            self._period.add((now_s - self._started_s) * 1e3)
        self._started_s = now_s

    def end(self) -> None:
        """Note the end."""
        assert self._started_s is not None
        self._took.add((time.monotonic() - self._started_s) * 1e3)

    def measure(self) -> None:
        """Renew `values`: median and 99th percentile, such as `{"tick p50 ms": "0.31"}`."""
        kinds = ((self._name, self._took), (f"{self._name} period", self._period))
        self.values = {
            f"{name} p{share} ms": f"{recent.percentile(share):.2f}"
            for name, recent in kinds
            for share in (50, 99)
        }
