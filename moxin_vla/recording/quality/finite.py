"""Is every number a number?"""

from collections.abc import Iterator

import numpy as np

from moxin_vla.recording.quality.expected import Expected
from moxin_vla.recording.quality.findings import Finding, Severity, where_rows
from moxin_vla.recording.stored import StoredDataset


def find(dataset: StoredDataset, expected: Expected) -> Iterator[Finding]:
    """Look for NaN and infinity: one of them spoils a training run."""
    for episode in dataset.episodes:
        for key, values in episode.columns.items():
            if values.dtype.kind != "f" or not len(values):
                continue
            flat = values.reshape(len(values), -1)
            bad = ~np.isfinite(flat)
            if bad.any():
                labels = dataset.labels(key) if key in dataset.features else ("",)
                dims = ", ".join(labels[i] for i in np.flatnonzero(bad.any(axis=0))[:4])
                rows = np.flatnonzero(bad.any(axis=1))
                yield Finding(
                    Severity.ERROR,
                    f"not finite in {len(rows)} rows: {dims}",
                    "Drop the episode; a recorder must refuse such values.",
                    episode.index,
                    key,
                    where_rows(rows, dataset.fps),
                )
