"""Parameters: a frozen dataclass becomes declared ROS parameters with description and range."""

import json
from dataclasses import MISSING, Field, field, fields
from typing import Any

import yaml
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node

from moxin_vla.core.errors import MoxinVlaError

type Number = int | float


class ParameterError(MoxinVlaError):
    """A parameter has a wrong type or is out of its range."""


def parameter(
    default: Any,
    description: str,
    bounds: tuple[Number, Number] | None = None,
    dynamic: bool = False,
) -> Any:
    """Describe a field of a parameter dataclass.

    Args:
        default: Value if none is given; its type is the parameter's type.
        description: Shown by `ros2 param describe`.
        bounds: Smallest and largest value allowed.
        dynamic: True if it may be set while the node runs; every other parameter is read only, so
            that setting it is refused instead of silently changing nothing.
    """
    metadata = {"description": description, "bounds": bounds, "dynamic": dynamic}
    return field(default=default, metadata=metadata)


def declare_parameters(node: Node, kind: type) -> None:
    """Declare every field of the dataclass `kind`.

    Raises:
        ParameterError: A value from the command line or launch file does not fit.
    """
    for declared in fields(kind):
        assert declared.default is not MISSING
        try:
            node.declare_parameter(declared.name, declared.default, _descriptor(declared))
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            bounds = declared.metadata["bounds"]
            expected = type(declared.default).__name__ + (
                f" in {bounds[0]} .. {bounds[1]}" if bounds else ""
            )
            raise ParameterError(
                f"Parameter '{declared.name}' of {node.get_name()} must be {expected}. {error}"
            ) from None


def read_parameters[P](node: Node, kind: type[P]) -> P:
    """Return the present values as an instance of the dataclass `kind`."""
    return kind(**{f.name: node.get_parameter(f.name).value for f in fields(kind)})  # pyright: ignore[reportArgumentType]


def as_yaml(value: Any) -> str:
    """Return a parameter's value as the command line takes it."""
    if not isinstance(value, str):
        return json.dumps(value)
    # not JSON: it has no escape for what is beyond 16 bits
    return yaml.safe_dump(value, default_style='"', width=float("inf")).strip()


def _descriptor(declared: Field) -> ParameterDescriptor:
    about = declared.metadata
    descriptor = ParameterDescriptor(
        description=about["description"], read_only=not about["dynamic"]
    )
    if about["bounds"] is not None:
        low, high = about["bounds"]
        if isinstance(declared.default, float):
            span = FloatingPointRange(from_value=float(low), to_value=float(high))
            descriptor.floating_point_range = [span]
        else:
            descriptor.integer_range = [IntegerRange(from_value=low, to_value=high)]
    return descriptor
