"""All checks of a dataset, one after the other."""

from collections.abc import Callable

from moxin_vla.core.embodiment import parse_embodiment
from moxin_vla.core.errors import EmbodimentError
from moxin_vla.recording.quality import (
    cameras,
    finite,
    gaps,
    idle,
    instructions,
    jumps,
    order,
    reference,
    robot,
    saturation,
    structure,
)
from moxin_vla.recording.quality.expected import Expected
from moxin_vla.recording.quality.findings import RANKS, Finding
from moxin_vla.recording.stored import StoredDataset

CHECKS = {
    "structure": structure.find,
    "numbers": finite.find,
    "time": gaps.find,
    "instructions": instructions.find,
    "robot": robot.find,
    "joint order": order.find,
    "jumps": jumps.find,
    "limits": saturation.find,
    "idle": idle.find,
    "checkpoint": reference.find,
    "cameras": cameras.find,
}


def check(
    dataset: StoredDataset,
    expected: Expected,
    progress: Callable[[str], None] = lambda name: None,
) -> list[Finding]:
    """Run every check; findings come worst first, then by episode.

    Args:
        dataset: What to look at.
        expected: What to hold it against.
        progress: Called with the name of each check before it runs.
    """
    findings: list[Finding] = []
    for name, find in CHECKS.items():
        progress(name)
        findings += find(dataset, expected)
    return sorted(findings, key=lambda f: (RANKS[f.severity], f.episode or -1, f.column or ""))


def own_expectation(dataset: StoredDataset) -> Expected:
    """Return the robot that a dataset of our recorder carries with it; nothing for others."""
    content = dataset.metadata.get("embodiment", {})
    content = content.get("content") if isinstance(content, dict) else None
    if content is None:
        return Expected()
    try:
        return Expected(parse_embodiment(content))
    except EmbodimentError:
        return Expected()  # of another version of this program
