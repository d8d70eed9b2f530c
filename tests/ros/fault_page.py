"""docs/reference/faults.md, from what the fault suite measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from moxin_vla.core.embodiment import Embodiment

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "faults.md"


@dataclass(frozen=True, slots=True)
class Row:
    """What one fault led to."""

    fault: str
    mode: str
    reason: str
    speed: float
    acceleration: float
    stood_after_s: float | None
    way_back: str


def page(embodiment: Embodiment, rows: Sequence[Row]) -> str:
    """Return the page that lists what was measured."""
    lines = [
        "# Faults",
        "",
        "Measured by `tests/ros/test_fault_suite.py` over real DDS processes; made with",
        "`MOXIN_VLA_WRITE_FAULTS=1 python -m pytest tests/ros/test_fault_suite.py`. The arm is",
        "in full swing when the fault begins. Speed and acceleration are the largest of any joint",
        f"since then; the limits of this robot are {embodiment.velocity_limit.max():g} rad/s and "
        f"{embodiment.acceleration_limit.max():g} rad/s^2,",
        f"at {embodiment.control_rate_hz:g} Hz. A fault latches after "
        f"{embodiment.safety.latch_after_s:g} s.",
        "",
        "| fault | ends in | reason reported | rad/s | rad/s^2 | stands after | way back |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        stood = "goes on" if row.stood_after_s is None else f"{row.stood_after_s:.2f} s"
        lines.append(
            f"| {row.fault} | {row.mode} | {row.reason} | {row.speed:.2f} | "
            f"{row.acceleration:.1f} | {stood} | {row.way_back} |"
        )
    return "\n".join([*lines, ""])
