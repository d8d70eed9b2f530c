"""What a check says."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike


class Severity(StrEnum):
    """How bad it is: an error spoils training, a warning costs quality, a note is worth a look."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


RANKS = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.NOTE: 2}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a check found.

    Attributes:
        severity: How bad it is.
        what: What is wrong, with its numbers.
        advice: What to do about it.
        episode: The episode; None for the whole dataset.
        column: The column, or `column.dim`; None if it is about none.
        where: Rows and times within the episode; empty for all of it.
    """

    severity: Severity
    what: str
    advice: str
    episode: int | None = None
    column: str | None = None
    where: str = ""


def grouped(findings: Sequence[Finding]) -> list[tuple[Finding, list[int]]]:
    """Put together what is wrong in the same way in several episodes.

    Returns:
        The first finding of each kind, and the episodes that have it; none if it is about all.
    """
    kinds: dict[tuple, list[Finding]] = {}
    for finding in findings:
        kinds.setdefault((finding.severity, finding.column, finding.advice), []).append(finding)
    return [
        (kind[0], sorted({f.episode for f in kind if f.episode is not None}))
        for kind in kinds.values()
    ]


def where_rows(rows: ArrayLike, fps: float) -> str:
    """Write rows in words: `rows 3-9, 12 (0.2-0.6 s)`; three runs at most."""
    rows = np.unique(np.asarray(rows, np.int64))
    if not len(rows):
        return ""
    runs = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)
    shown = [f"{r[0]}-{r[-1]}" if len(r) > 1 else str(r[0]) for r in runs[:3]]
    more = f" and {len(runs) - 3} more places" if len(runs) > 3 else ""
    noun = "rows" if len(rows) > 1 else "row"
    return f"{noun} {', '.join(shown)}{more} ({rows[0] / fps:.1f}-{rows[-1] / fps:.1f} s)"
