"""Do `action` and `observation.state` speak of the same joints in the same order?"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from moxin_vla.core import dataset as keys
from moxin_vla.recording.quality.expected import Expected
from moxin_vla.recording.quality.findings import Finding, Severity
from moxin_vla.recording.stored import StoredDataset

_CLEARLY = 0.5  # another joint is followed with less than so much of the own joint's distance
_CLOSE = 0.5  # of the followed joint's spread: else it is followed by nobody


def find(dataset: StoredDataset, expected: Expected) -> Iterator[Finding]:
    """Look for an action dim that follows another joint than the one it is named after."""
    names = {key: dataset.names(key) for key in (keys.PROPRIO, keys.ACTION)}
    proprio_names, action_names = names.values()
    if (
        sorted(proprio_names) == sorted(action_names)
        and proprio_names != action_names
        and action_names
    ):
        yield Finding(
            Severity.ERROR,
            f"named {', '.join(action_names)}, and {keys.PROPRIO} {', '.join(proprio_names)}",
            "A policy that answers with offsets would add them to the wrong joints.",
            column=keys.ACTION,
        )
    matched = _matched(dataset)
    if matched is None:
        return
    labels, followed = dataset.labels(keys.ACTION), dataset.labels(keys.PROPRIO)
    for joint, best in enumerate(matched):
        if best != joint:
            yield Finding(
                Severity.ERROR,
                f"follows {followed[best]} of {keys.PROPRIO}, not {followed[joint]}",
                "The joints of one of them are in another order. Mend the names or the driver.",
                column=f"{keys.ACTION}.{labels[joint]}",
            )


def _matched(dataset: StoredDataset) -> NDArray[np.int64] | None:
    """Return which joint each action dim follows, shape (D,); None if that can't be said.

    Only absolute targets follow joints; where the distances are no smaller than the joints' own
    spread, the actions are something else.
    """
    parts = [
        (p, a)
        for e in dataset.episodes
        if (p := e.vector(keys.PROPRIO)) is not None and (a := e.vector(keys.ACTION)) is not None
    ]
    if not parts or any(p.shape != a.shape for p, a in parts):
        return None
    proprio, action = (np.concatenate(side) for side in zip(*parts, strict=True))
    finite = np.isfinite(proprio).all(axis=1) & np.isfinite(action).all(axis=1)
    proprio, action = proprio[finite], action[finite]
    if len(proprio) < 2:
        return None
    distance = np.sqrt(
        np.stack([((action - p[:, None]) ** 2).mean(axis=0) for p in proprio.T], axis=1)
    )  # (D action, D proprio)
    best, own = distance.argmin(axis=1), np.arange(len(distance))
    clearly = distance[own, best] < _CLEARLY * distance[own, own]
    close = distance[own, best] < _CLOSE * np.maximum(proprio.std(axis=0)[best], 1e-9)
    swapped = clearly & close
    # a real exchange is one: every joint that is followed by a wrong one lost its own follower
    swapped &= np.isin(own, best[swapped]) & np.isin(best, own[swapped])
    return np.where(swapped, best, own)
