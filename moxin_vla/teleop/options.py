"""Options of a device: text from the command line into a checked, frozen dataclass."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import yaml

from moxin_vla.core.errors import listed
from moxin_vla.teleop.base import TeleopError

_WORDS = {str: "text", bool: "true or false", int: "a whole number", float: "a number"}


def read_options(text: str) -> dict[str, Any]:
    """Return the mapping that a YAML text such as `{port: /dev/ttyACM0}` holds; empty for none.

    Raises:
        TeleopError: It is no mapping.
    """
    try:
        values = yaml.safe_load(text) if text.strip() else {}
    except yaml.YAMLError as error:
        raise TeleopError(f"The options of the device are not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise TeleopError(
            f"The options of a device are a mapping such as '{{port: /dev/ttyACM0}}'. Got: {text}"
        )
    return {str(key): value for key, value in values.items()}


def options_text(pairs: Sequence[str]) -> str:
    """Return the text that `read_options` reads, from pairs such as `port=/dev/ttyACM0`.

    Raises:
        TeleopError: A pair has no `=`.
    """
    values = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise TeleopError(f"An option is written KEY=VALUE. Got: '{pair}'")
        values[key] = _scalar_in(value)
    return yaml.safe_dump(values, default_flow_style=True, width=10_000).strip() if values else ""


def _scalar_in(text: str) -> Any:
    """Return the number, the truth value or else the text that a text stands for."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    return value if isinstance(value, str | bool | int | float) else text


def checked_options[O](kind: type[O], values: Mapping[str, Any], device: str) -> O:
    """Return `values` as an instance of the dataclass `kind`, whose fields are scalars.

    Raises:
        TeleopError: A name is unknown or a value is of another type.
    """
    known = {field.name: type(field.default) for field in fields(kind)}  # pyright: ignore[reportArgumentType]
    if unknown := [name for name in values if name not in known]:
        raise TeleopError(
            f"Device '{device}' has no option {listed(unknown)}. Known: {listed(known)}"
        )
    return kind(**{name: _scalar(known[name], v, name, device) for name, v in values.items()})


def _scalar(kind: type, value: Any, name: str, device: str) -> Any:
    accepted = (int, float) if kind is float else kind
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise TeleopError(
            f"Option '{name}' of device '{device}' must be {_WORDS[kind]}. Got: {value!r}"
        )
    return kind(value)
