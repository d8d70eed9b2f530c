"""Values of parameters come out of a node's command line as they went in."""

from typing import Any

import pytest
import rclpy
from rclpy.context import Context

from moxin_vla.ros.parameters import as_yaml

INSTRUCTIONS = {
    "beyond 16 bits": "pick up the \N{SLICE OF PIZZA} at \u00fc \u65e5\u672c",
    "lines": "pick up the cube\nthen\tthe ball\r\n",
    "quotes": """say "it's \\"done\\" """,
    "yaml": "- {a: 1} # no comment: *x",
    "a number": "1.0",
    "a truth": "yes",
    "nothing": "",
    "spaces": "  wide  ",
    "long": "word " * 2000,
}


def through_a_node(text: str, default: Any) -> Any:
    """Return the value of a parameter that a node's command line gives as `text`."""
    context = Context()
    rclpy.init(args=["--ros-args", "-p", f"value:={text}"], context=context)
    try:
        node = rclpy.create_node("test_parameters", context=context)
        value = node.declare_parameter("value", default).value
        node.destroy_node()
        return value
    finally:
        rclpy.shutdown(context=context)


@pytest.mark.parametrize("kind", INSTRUCTIONS)
def test_an_instruction_comes_out_as_it_went_in(kind: str) -> None:
    instruction = INSTRUCTIONS[kind]
    assert "\n" not in as_yaml(instruction)
    assert through_a_node(as_yaml(instruction), "") == instruction


@pytest.mark.parametrize("value", [True, 7, -0.25, 1e-05, ["a", "b"], [0.5, 1.0]])
def test_other_values_come_out_as_they_went_in(value: Any) -> None:
    got = through_a_node(as_yaml(value), value)
    assert list(got) == value if isinstance(value, list) else got == value
