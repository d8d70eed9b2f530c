import numpy as np
import pytest

from moxin_vla.teleop.autopilot import Autopilot, AutopilotOptions
from moxin_vla.teleop.base import Mode, OperatorEvent, OperatorInput, TeleopError

TAKE, GIVE_BACK = OperatorEvent.TAKE, OperatorEvent.GIVE_BACK
STEP_NS = 50_000_000
RIGHT = np.linspace(-0.3, 0.3, 6)  # what the expert would command
NEAR, FAR = RIGHT + 0.09, RIGHT + np.array([0.0, 0.0, 0.0, 0.0, -0.11, 0.0])


@pytest.fixture
def make(embodiment):
    return lambda **options: Autopilot(embodiment, AutopilotOptions(**options))


def played(pilot, ticks, policy=None, driver="policy", episode="1"):
    """Play ticks; returns (tick, event) pairs. `policy` is what was asked for at each."""
    happened = []
    for k in ticks:
        pilot.put_expert(k * STEP_NS, RIGHT, episode)
        happened += [(k, event) for event in pilot.poll(Mode.JOINT, k * STEP_NS).events]
        pilot.put_requested(k * STEP_NS, driver, policy)
    return happened


def test_what_the_expert_would_command_is_the_target(make):
    pilot = make()
    for k in range(3):
        pilot.put_expert(k * STEP_NS, RIGHT + k, "1")
        wanted = pilot.poll(Mode.JOINT, k * STEP_NS)
        assert wanted.held and np.array_equal(wanted.target, RIGHT + k)


def test_an_action_for_a_later_tick_waits(make):
    pilot = make()
    pilot.put_expert(0, RIGHT, "1")
    pilot.put_expert(STEP_NS, RIGHT + 1, "1")
    assert np.array_equal(pilot.poll(Mode.JOINT, STEP_NS - 1).target, RIGHT)


def test_a_stale_action_is_not_passed_on(make):
    pilot = make(rule="late", after_s=0.2)
    played(pilot, range(4))
    assert pilot.poll(Mode.JOINT, 6 * STEP_NS).held
    assert pilot.poll(Mode.JOINT, 6 * STEP_NS + 1) == OperatorInput()


def test_an_expert_that_was_never_heard_wants_nothing(make):
    assert make().poll(Mode.JOINT, 0) == OperatorInput()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"rule": "always"}, [(3, TAKE)]),
        ({"rule": "never", "give_back_after_s": 0.1}, []),
        ({"rule": "late", "after_s": 0.5}, [(13, TAKE)]),
        ({"rule": "late", "after_s": 0.0}, [(3, TAKE)]),
        ({"rule": "always", "give_back_after_s": 0.2}, [(3, TAKE), (7, GIVE_BACK)]),
        ({"rule": "late", "after_s": 0.1, "give_back_after_s": 0.2}, [(5, TAKE), (9, GIVE_BACK)]),
    ],
    ids=str,
)
def test_the_expert_takes_over_and_gives_back_once_an_episode(make, options, expected):
    pilot = make(**options)
    assert played(pilot, range(3, 60), FAR) == expected
    assert played(pilot, range(103, 160), FAR, episode="2") == [(k + 100, e) for k, e in expected]


def test_a_clock_that_went_back_is_another_episode(make):
    pilot = make()
    assert played(pilot, range(5)) == [(0, TAKE)]
    assert pilot.put_expert(STEP_NS, RIGHT, "1")
    assert pilot.poll(Mode.JOINT, STEP_NS).events == (TAKE,)


def test_the_same_tick_again_is_no_other_episode(make):
    pilot = make()
    assert pilot.put_expert(0, RIGHT, "1") and not pilot.put_expert(0, RIGHT, "1")
    assert pilot.put_expert(0, RIGHT, "2")


def test_a_policy_far_off_for_long_is_taken_over_from(make):
    pilot = make(rule="far", far_rad=0.1, far_s=0.3)
    assert played(pilot, range(10), NEAR) == []
    assert played(pilot, range(10, 30), FAR) == [(16, TAKE)]


def test_a_break_begins_the_time_far_off_anew(make):
    pilot = make(rule="far", far_rad=0.1, far_s=0.3)
    for begin in range(0, 40, 5):
        assert played(pilot, range(begin, begin + 4), FAR) == []
        assert played(pilot, [begin + 4], NEAR) == []


@pytest.mark.parametrize(("driver", "asked"), [("operator", FAR), ("", FAR), ("policy", None)])
def test_only_what_a_policy_asked_for_counts_as_far(make, driver, asked):
    pilot = make(rule="far", far_rad=0.1, far_s=0.3)
    assert played(pilot, range(30), asked, driver) == []


def test_far_is_met_again_and_again(make):
    pilot = make(rule="far", far_rad=0.1, far_s=0.1, give_back_after_s=0.2)
    for k in (0, 10, 20):
        assert played(pilot, range(k, k + 5), FAR) == [(k + 2, TAKE)]
        assert played(pilot, range(k + 5, k + 10), FAR, "operator") == [(k + 6, GIVE_BACK)]


def test_in_lockstep_it_waits_for_the_action_of_the_tick(make):
    pilot = make()
    assert not pilot.ready(0)
    pilot.put_expert(0, RIGHT, "1")
    assert pilot.ready(0) and not pilot.ready(STEP_NS)


def test_in_lockstep_far_waits_for_what_was_asked_at_the_tick_before(make):
    pilot = make(rule="far", far_rad=0.1, far_s=0.0)
    pilot.put_expert(0, RIGHT, "1")
    assert pilot.ready(0)  # there is no tick before
    pilot.put_expert(STEP_NS, RIGHT, "1")
    assert not pilot.ready(STEP_NS)
    pilot.put_requested(0, "policy", FAR)
    assert pilot.ready(STEP_NS)
    assert pilot.poll(Mode.JOINT, STEP_NS).events == (TAKE,)
    pilot.put_expert(2 * STEP_NS, RIGHT, "1")
    assert pilot.ready(2 * STEP_NS)  # it drives: the policy's action is nothing to wait for


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rule": "never"}, "when asked to (~/take)"),
        ({"rule": "late", "after_s": 1.5}, "1.5 s after the first tick"),
        ({"rule": "far", "far_rad": 0.2, "far_s": 1}, "when the policy is 0.2 rad off for 1 s"),
    ],
)
def test_the_screen_shows_the_rule(make, options, words):
    assert make(**options).keys(Mode.JOINT) == [("expert takes over", words)]


def test_an_unknown_rule_is_refused_with_the_known_ones():
    with pytest.raises(TeleopError, match=r"'soon'\. Choose from: always, never, late, far$"):
        AutopilotOptions(rule="soon")


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["after_s", "far_rad", "far_s", "give_back_after_s"])
def test_an_option_that_is_no_time_or_angle_is_refused(name, value):
    with pytest.raises(TeleopError, match=rf"^{name} must be a time or angle\. Got: {value}$"):
        AutopilotOptions(**{name: value})
