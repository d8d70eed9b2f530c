"""Normalisation statistics: `dataset_statistics.json`, one entry per data set.

With several entries none is ever chosen silently.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from moxin_vla.core.errors import CheckpointError, listed
from moxin_vla.core.types import frozen_array
from moxin_vla.policy.moxin.config import NormType

_BOUNDS = {"bounds": ("min", "max"), "bounds_q99": ("q01", "q99")}
_NAMES = ("min", "max", "q01", "q99", "mean", "std")
_EPSILON = 1e-8
# A dim that hardly moves in the data would be blown up: quantiles closer than half of this are
# moved apart.
_NARROW = 0.1


@dataclass(frozen=True, slots=True)
class Bounds:
    """Scales vectors to [-1, 1] between `low` and `high`; dims outside the mask pass unchanged.

    All three are of shape (D,).
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    mask: NDArray[np.bool_]

    def normalise(self, values: ArrayLike) -> NDArray[np.float64]:
        """Map (..., D) in units of the data to about [-1, 1]."""
        values = np.asarray(values, np.float64)
        scaled = 2.0 * (values - self.low) / (self.high - self.low + _EPSILON) - 1.0
        return np.where(self.mask, scaled, values)

    def unnormalise(self, values: ArrayLike) -> NDArray[np.float64]:
        """Map (..., D) back to units of the data."""
        values = np.asarray(values, np.float64)
        raw = 0.5 * (values + 1.0) * (self.high - self.low + _EPSILON) + self.low
        return np.where(self.mask, raw, values)


@dataclass(frozen=True, slots=True)
class Statistics:
    """Bounds of actions and proprio for one data set."""

    action: Bounds
    proprio: Bounds

    def normalise_proprio(self, proprio: ArrayLike) -> NDArray[np.float64]:
        """Map proprio (..., D) to [-1, 1], clipped, as training does."""
        return np.clip(self.proprio.normalise(proprio), -1.0, 1.0)


def select_entry(content: dict[str, Any], key: str | None) -> dict[str, Any]:
    """Return one data set's entry of `dataset_statistics.json`.

    Raises:
        CheckpointError: The key is unknown, or none is given and there are several.
    """
    if key is None and len(content) == 1:
        return next(iter(content.values()))
    if key is None:
        raise CheckpointError(
            f"The checkpoint has statistics of several data sets and none was chosen. "
            f"Set statistics_key to one of: {listed(content)}"
        )
    if key not in content:
        raise CheckpointError(f"Unknown statistics key '{key}'. Known: {listed(content)}")
    return content[key]


def parse_statistics(
    entry: dict[str, Any], norm_type: NormType, action_dim: int, proprio_dim: int
) -> Statistics:
    """Build statistics from an entry, checking every dimension.

    Raises:
        CheckpointError: A field is missing, has the wrong length or is not finite.
    """
    return Statistics(
        action=_bounds(entry, "action", norm_type, action_dim),
        proprio=_bounds(entry, "proprio", norm_type, proprio_dim),
    )


def _bounds(entry: dict[str, Any], name: str, norm_type: NormType, size: int) -> Bounds:
    low, high = _BOUNDS[norm_type]
    for field in (name, *(f"{name}.{bound}" for bound in (low, high))):
        node: Any = entry
        for part in field.split("."):
            if not isinstance(node, dict) or part not in node:
                raise CheckpointError(f"dataset_statistics.json: '{field}' is missing.")
            node = node[part]
    mask = entry[name].get("mask", [True] * size)
    values = [frozen_array(entry[name][low]), frozen_array(entry[name][high])]
    for label, array in ((low, values[0]), (high, values[1]), ("mask", np.asarray(mask))):
        if array.shape != (size,) or not np.all(np.isfinite(array)):
            raise CheckpointError(
                f"dataset_statistics.json: '{name}.{label}' must hold {size} finite values. "
                f"Got: {array.tolist()}"
            )
    return Bounds(values[0], values[1], frozen_array(mask, bool))


def fit_statistics(actions: NDArray, proprio: NDArray) -> dict[str, Any]:
    """Compute an entry of `dataset_statistics.json`.

    Args:
        actions: Actions as the model expresses them, shape (n, D).
        proprio: Proprio, shape (n, D).
    """
    mask = [True] * actions.shape[1]
    return {
        "action": _describe(actions) | {"mask": mask},
        "proprio": _describe(proprio),
        "num_transitions": len(proprio),
    }


def _describe(values: NDArray) -> dict[str, list[float]]:
    values = values.astype(np.float64)
    low, high = np.quantile(values, [0.01, 0.99], axis=0)
    narrow = high - low < _NARROW / 2
    columns = (
        values.min(0),
        values.max(0),
        np.where(narrow, low - _NARROW / 2, low),
        np.where(narrow, high + _NARROW / 2, high),
        values.mean(0),
        values.std(0),
    )
    return {name: column.tolist() for name, column in zip(_NAMES, columns, strict=True)}


def load_statistics(path: Path) -> dict[str, Any]:
    """Read `dataset_statistics.json`; raise CheckpointError if it is missing or not JSON."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"The checkpoint has no statistics: '{path}' is missing.") from None
    except json.JSONDecodeError as error:
        raise CheckpointError(f"'{path}' is not valid JSON: {error}") from None
    if not isinstance(content, dict) or not content:
        raise CheckpointError(f"'{path}' holds no statistics.")
    return content
