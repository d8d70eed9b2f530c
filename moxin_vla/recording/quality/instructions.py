"""Does every row say what to do?"""

from collections.abc import Iterator

from moxin_vla.recording.quality.expected import Expected
from moxin_vla.recording.quality.findings import Finding, Severity
from moxin_vla.recording.stored import StoredDataset


def find(dataset: StoredDataset, expected: Expected) -> Iterator[Finding]:
    """Look for rows without an instruction, and for instructions that change within an episode."""
    for episode in dataset.episodes:
        said = [(text or "").strip() for text in episode.instructions]
        if episode.rows and (not said or not all(said)):
            yield Finding(
                Severity.ERROR,
                "rows without an instruction",
                "A policy would learn to act on an empty instruction. Name it when recording.",
                episode.index,
                "task",
            )
        elif len(said) > 1:
            yield Finding(
                Severity.NOTE,
                f"the instruction changes: {'; '.join(said)}",
                "Fine if it was meant so.",
                episode.index,
                "task",
            )
