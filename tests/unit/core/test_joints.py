"""Joint states are read by name, never by position in the message."""

import pytest

from moxin_vla.core.errors import ObservationError
from moxin_vla.core.joints import JointLookup


@pytest.fixture
def lookup():
    return JointLookup(("pan", "lift", "gripper"))


def test_any_order_and_extra_joints_are_fine(lookup):
    names = ["gripper", "wheel", "pan", "lift"]
    assert lookup.proprio(names, [3.0, 9.0, 1.0, 2.0]).tolist() == [1.0, 2.0, 3.0]


def test_the_order_may_change_between_messages(lookup):
    assert lookup.proprio(["pan", "lift", "gripper"], [1.0, 2.0, 3.0]).tolist() == [1.0, 2.0, 3.0]
    assert lookup.proprio(["gripper", "lift", "pan"], [1.0, 2.0, 3.0]).tolist() == [3.0, 2.0, 1.0]


def test_the_result_is_a_read_only_copy(lookup):
    positions = [1.0, 2.0, 3.0]
    with pytest.raises(ValueError, match="read-only"):
        lookup.proprio(["pan", "lift", "gripper"], positions)[0] = 0.0


@pytest.mark.parametrize(
    ("names", "positions", "message"),
    [
        (
            ["gripper", "wheel"],
            [0.0, 0.0],
            "Joint state lacks: pan, lift\n"
            "  found in the message:       gripper, wheel\n"
            "  expected by the embodiment: pan, lift, gripper",
        ),
        (
            [],
            [],
            "Joint state lacks: pan, lift, gripper\n"
            "  found in the message:       none\n"
            "  expected by the embodiment: pan, lift, gripper",
        ),
        (
            ["pan", "lift", "gripper"],
            [0.0, 0.0],
            "Joint state has 3 names but positions of shape (2,).",
        ),
        (
            ["pan", "lift", "gripper", "pan"],
            [0.0] * 4,
            "Joint state names a joint twice: pan",
        ),
        (
            ["gripper", "lift", "pan"],
            [float("nan"), 0.0, float("inf")],
            "Joint state is not finite for: pan, gripper",
        ),
    ],
)
def test_an_unusable_joint_state_is_refused_in_words(lookup, names, positions, message):
    with pytest.raises(ObservationError) as caught:
        lookup.proprio(names, positions)
    assert str(caught.value) == message


def test_nan_in_a_joint_nobody_needs_is_fine(lookup):
    proprio = lookup.proprio(["pan", "wheel", "lift", "gripper"], [1.0, float("nan"), 2.0, 3.0])
    assert proprio.tolist() == [1.0, 2.0, 3.0]
