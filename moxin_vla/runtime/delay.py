"""Injected inference delay in simulated time: the answer to an observation becomes visible d
control steps later, however long the policy really takes. Deterministic, so it can be compared.

constant   `4`              every plan takes 4 steps; also `constant:4`
spiky      `spiky:2:8:10`   2 steps, and 8 at every tenth plan
recorded   `trace:FILE`     seconds, one per plan, from a JSON or CSV file, over and over
"""

import csv
import json
import math
import statistics
from dataclasses import dataclass
from pathlib import Path

from moxin_vla.core.clock import NS_PER_S
from moxin_vla.core.errors import MoxinVlaError

_FORMS = "a number of control steps, spiky:USUAL:SPIKE:EVERY, trace:FILE"
_COLUMN = "delay_s"
_ROUNDING = 1e-9  # share of a step that a delay may exceed it by


class DelayError(MoxinVlaError):
    """A delay can't be injected as asked."""


@dataclass(frozen=True, slots=True)
class DelayTrace:
    """Delay of the first, second, ... plan of an episode, in control steps; repeats at its end.

    Attributes:
        name: As the user wrote it.
        steps: Delays, at least one, none negative.
    """

    name: str
    steps: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.steps or min(self.steps) < 0:
            raise DelayError(
                f"Delay '{self.name}' needs at least one step count, none of them negative. "
                f"Got: {list(self.steps)}"
            )

    def at(self, plan: int) -> int:
        """Return the delay of a plan, counted from 0 at the start of the episode."""
        return self.steps[plan % len(self.steps)]

    @property
    def usual(self) -> int:
        """The median: what a system with this delay is laid out for."""
        return statistics.median_high(self.steps)


NO_DELAY = DelayTrace("0", (0,))


def parse_delay(text: str, step_ns: int) -> DelayTrace:
    """Read a delay as a user writes it; see the head of this module.

    Args:
        text: The delay.
        step_ns: Control period, in [ns], for delays in seconds.

    Raises:
        DelayError: It has none of the forms, or the file can't be read.
    """
    kind, _, rest = text.partition(":")
    if kind == "trace" and rest:
        return DelayTrace(text, tuple(_in_steps(s, step_ns) for s in _recorded(Path(rest))))
    try:
        if kind == "spiky":
            usual, spike, every = (int(part) for part in rest.split(":"))
            return DelayTrace(text, (usual,) * (max(1, every) - 1) + (spike,))
        return DelayTrace(text, (int(rest if kind == "constant" else text),))
    except ValueError:
        raise DelayError(f"Unknown delay '{text}'. Expected: {_FORMS}") from None


def check_feasible(delay: DelayTrace, execution_horizon: int, horizon: int) -> None:
    """Refuse a delay with which the plan runs out before the next one comes: d <= s <= H - d.

    The usual delay counts; a spike beyond the bound is played, and the arm holds meanwhile.

    Raises:
        DelayError: It does not hold; says what would.
    """
    d, s = delay.usual, execution_horizon
    if not d <= s <= horizon - d:
        most = min(s, horizon - s)
        raise DelayError(
            f"A delay of d = {d} steps needs d <= s <= H - d. Got: s = {s} and H = {horizon}. "
            + (
                f"With them d may be at most {most}."
                if most >= 0
                else f"s must not be larger than {horizon}."
            )
        )


def _in_steps(seconds: float, step_ns: int) -> int:
    if not (math.isfinite(seconds) and seconds >= 0):
        raise DelayError(f"A recorded delay must be finite and not negative. Got: {seconds} s")
    return math.ceil(seconds * NS_PER_S / step_ns - _ROUNDING)


def _recorded(path: Path) -> list[float]:
    """Read seconds from a JSON list, a JSON object or CSV with `delay_s`, or bare lines."""
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            content = json.loads(text)
            return [float(v) for v in (content[_COLUMN] if isinstance(content, dict) else content)]
        rows = [row for row in csv.reader(text.splitlines()) if row]
        column = rows[0].index(_COLUMN) if _COLUMN in rows[0] else 0
        return [float(row[column]) for row in (rows[1:] if _COLUMN in rows[0] else rows)]
    except OSError as error:
        raise DelayError(f"No delay trace at '{path}': {error.strerror}") from None
    except (ValueError, KeyError, IndexError, TypeError):
        raise DelayError(
            f"'{path}' is no delay trace. Expected: a JSON list of seconds, or a JSON object or a "
            f"CSV file with '{_COLUMN}'"
        ) from None
