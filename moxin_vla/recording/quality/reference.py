"""Do the numbers fit a checkpoint's statistics? What lies outside them it can't express."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from moxin_vla.core import dataset as keys
from moxin_vla.core.errors import listed
from moxin_vla.recording.quality.expected import Bounds, Expected, Reference, expressed_actions
from moxin_vla.recording.quality.findings import Finding, Severity
from moxin_vla.recording.stored import StoredDataset

_OFTEN, _TOO_OFTEN = 0.1, 0.4  # of the rows outside; 0.02 is what quantiles leave there
_NARROW = 0.1  # of the checkpoint's range


def find(dataset: StoredDataset, expected: Expected) -> Iterator[Finding]:
    """Compare names, rate, cameras and ranges with the checkpoint, if one is given."""
    reference = expected.reference
    if reference is None:
        return
    yield from _facts(dataset, reference)
    if not reference.comparable:
        yield Finding(
            Severity.NOTE,
            f"'{reference.name}' acts on an end effector; its statistics can't be compared",
            "Only names, rate and cameras were.",
        )
        return
    proprio = [v for e in dataset.episodes if (v := e.vector(keys.PROPRIO)) is not None]
    actions = [expressed_actions(e, reference) for e in dataset.episodes if e.rows]
    for key, parts, bounds in (
        (keys.ACTION, actions, reference.action),
        (keys.PROPRIO, proprio, reference.proprio),
    ):
        if parts and bounds is not None and key in dataset.features:
            yield from _compare(dataset, key, np.concatenate(parts), bounds, reference.name)


def _facts(dataset: StoredDataset, reference: Reference) -> Iterator[Finding]:
    advice = "Train another checkpoint, or name the right one."
    names = dataset.labels(keys.ACTION) if keys.ACTION in dataset.features else ()
    if reference.comparable and names != reference.names:
        yield Finding(
            Severity.ERROR,
            f"is {listed(names)}; '{reference.name}' was made for {listed(reference.names)}",
            advice,
            column=keys.ACTION,
        )
    if dataset.fps != reference.control_rate_hz:
        yield Finding(
            Severity.ERROR,
            f"is {dataset.fps:g}; '{reference.name}' runs at {reference.control_rate_hz:g} Hz",
            advice,
            column="fps",
        )
    for camera in reference.cameras:
        if keys.image_key(camera) not in dataset.features:
            yield Finding(
                Severity.ERROR,
                f"is missing; '{reference.name}' looks at {listed(reference.cameras)}",
                advice,
                column=keys.image_key(camera),
            )


def _compare(
    dataset: StoredDataset, key: str, values: NDArray[np.float64], bounds: Bounds, name: str
) -> Iterator[Finding]:
    """Hold values (n, D) against the range that the checkpoint maps to [-1, 1]."""
    if not len(values) or values.shape[1] != len(bounds.low):
        return
    outside = ((values < bounds.low) | (values > bounds.high)).mean(axis=0)
    low, high = np.nanquantile(values, [0.01, 0.99], axis=0)
    scale = (high - low) / np.maximum(bounds.high - bounds.low, 1e-9)
    for dim, label in enumerate(dataset.labels(key)):
        said = (
            f"is from {low[dim]:.2f} to {high[dim]:.2f} (1 to 99 %); '{name}' knows "
            f"{bounds.low[dim]:.2f} to {bounds.high[dim]:.2f}: {outside[dim]:.0%} outside"
        )
        if outside[dim] > _OFTEN:
            yield Finding(
                Severity.ERROR if outside[dim] > _TOO_OFTEN else Severity.WARNING,
                said,
                "Another unit, another zero or another robot; or fit new statistics.",
                column=f"{key}.{label}",
            )
        elif 0 < scale[dim] < _NARROW:
            yield Finding(
                Severity.NOTE,
                said + f", and only {scale[dim]:.0%} of its range is used",
                "Fine if this task needs no more of it.",
                column=f"{key}.{label}",
            )
