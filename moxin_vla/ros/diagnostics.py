"""Status and diagnostics as standard messages."""

from collections import deque
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
