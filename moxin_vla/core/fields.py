"""YAML sections -> checked keyword arguments of a dataclass, with errors that say where."""

import math
from dataclasses import MISSING, fields
from enum import Enum
from typing import Any

from moxin_vla.core.errors import EmbodimentError, listed

_SCALARS = {
    str: (str, "text"),
    bool: (bool, "true or false"),
    int: (int, "a whole number"),
    float: ((int, float), "a finite number"),
    float | None: ((int, float), "a finite number"),
}


def checked_fields(kind: type, raw: Any, where: str) -> dict[str, Any]:
    """Return a section's values: none missing, none unknown, scalars of the declared type.

    Args:
        kind: Dataclass that the section describes.
        raw: What stands in the file.
        where: Name of the section, for errors.

    Raises:
        EmbodimentError: Says which field, what was found and what is known.
    """
    names = [field.name for field in fields(kind)]
    if not isinstance(raw, dict):
        raise EmbodimentError(f"{where} must be a mapping with: {listed(names)}. Got: {raw!r}")
    needed = [field.name for field in fields(kind) if field.default is MISSING]
    if missing := [name for name in needed if name not in raw]:
        raise EmbodimentError(f"{where}: missing {listed(missing)}")
    if unknown := [name for name in raw if name not in names]:
        raise EmbodimentError(f"{where}: unknown {listed(unknown)}. Known: {listed(names)}")
    kinds = {field.name: field.type for field in fields(kind) if field.type in _SCALARS}
    given = [name for name in kinds if raw.get(name) is not None or name in needed]
    return raw | {name: scalar(kinds[name], raw[name], f"{where}: {name}") for name in given}


def scalar(kind: Any, value: Any, where: str) -> Any:
    """Return `value` if it is a scalar of `kind`; YAML reads 1e3 as text and `on` as a bool."""
    accepted, words = _SCALARS[kind]
    fits = isinstance(value, accepted) and (kind is bool or not isinstance(value, bool))
    numeric = kind in (float, float | None)
    if not fits or (numeric and not math.isfinite(value)):
        raise EmbodimentError(f"{where} must be {words}. Got: {value!r}")
    return float(value) if numeric else kind(value)


def choice(kind: type[Enum], value: Any, where: str) -> Any:
    """Return the member of an enum that is called `value`."""
    try:
        return kind(value)
    except ValueError:
        raise EmbodimentError(
            f"{where}: unknown value {value!r}. Choose from: {listed(m.value for m in kind)}"
        ) from None


def vector(value: Any, where: str, names: str = "[x, y, z]") -> tuple[float, ...]:
    """Return a list of numbers as long as `names` says."""
    if not isinstance(value, list) or len(value) != names.count(",") + 1:
        raise EmbodimentError(f"{where} must be {names}. Got: {value!r}")
    return tuple(scalar(float, number, where) for number in value)
