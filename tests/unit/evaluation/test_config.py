"""What can't be meant is refused before anything starts."""

from pathlib import Path

import pytest

from moxin_vla.core.protocols import PolicySpec
from moxin_vla.evaluation.config import EvaluationConfig, EvaluationError, check_horizon
from moxin_vla.runtime.delay import DelayError, DelayTrace


def config(**changes) -> EvaluationConfig:
    values = {"policy": "scripted:hold", "embodiment": Path("x.yaml"), "families": ("pick",)}
    return EvaluationConfig(**(values | {"episodes": 3} | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"episodes": 0}, "episodes must be at least 1. Got: 0"),
        ({"workers": 0}, "workers must be at least 1. Got: 0"),
        ({"execution_horizon": 0}, "execution horizon must be at least 1. Got: 0"),
        ({"first_seed": -5}, "first seed must be at least 0. Got: -5"),
        ({"videos": -1}, "videos must be at least 0. Got: -1"),
        ({"over": "zmq"}, "Unknown over 'zmq'. Choose from: inprocess, ros"),
        ({"mode": "fast"}, "Unknown mode 'fast'. Choose from: lockstep, realtime"),
        (
            {"over": "ros", "mode": "realtime", "delay": "2"},
            "In realtime inference takes the time it takes; a delay can be injected in lockstep "
            "or in process. Got: delay 2",
        ),
        (
            {"joiner": "magic"},
            "Unknown joiner 'magic'. Choose from: synchronous, naive, decay_blend, "
            "temporal_ensemble, gated, state_roll, prefix",
        ),
        ({"families": ()}, "Name every task family once, and at least one. Got: none"),
        (
            {"families": ("pick", "pick")},
            "Name every task family once, and at least one. Got: pick, pick",
        ),
        (
            {"over": "ros", "workers": 2},
            "Over ROS one system plays one episode at a time. Got: 2 workers. Expected: 1",
        ),
        (
            {"over": "ros", "policy": "expert"},
            "The expert reads the simulator's own state, which no topic carries. "
            "Run it in process, or choose a checkpoint or scripted:NAME.",
        ),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(changes, message):
    with pytest.raises(EvaluationError) as refused:
        config(**changes)
    assert str(refused.value) == message


def test_seeds_follow_the_first():
    assert list(config(first_seed=7).seeds) == [7, 8, 9]


def test_a_delay_that_cannot_be_bridged_is_refused_unless_the_arm_waits():
    spec = PolicySpec("short", ("a",), (), 16, 20.0)
    delay = DelayTrace("9", (9,))
    check_horizon(spec, 8, "synchronous", delay)
    with pytest.raises(DelayError, match="With them d may be at most 8"):
        check_horizon(spec, 8, "naive", delay)


def test_playing_more_than_was_predicted_is_refused():
    spec = PolicySpec("short", ("a",), (), 16, 20.0)
    check_horizon(spec, 16)
    with pytest.raises(EvaluationError) as refused:
        check_horizon(spec, 17)
    assert str(refused.value) == (
        "Policy 'short' predicts H = 16 steps; the execution horizon must not be larger. "
        "Got: s = 17"
    )
