"""One rule says when to plan again."""

import pytest

from moxin_vla.runtime.schedule import ReplanSchedule


def test_the_first_observation_is_due():
    assert ReplanSchedule(8, 50).due(0)


def test_a_plan_is_due_every_execution_horizon():
    schedule, due = ReplanSchedule(3, 50), []
    for time_ns in range(0, 500, 50):
        if schedule.due(time_ns):
            schedule.mark(time_ns)
            due.append(time_ns)
    assert due == [0, 150, 300, 450]


def test_asking_changes_nothing():
    schedule = ReplanSchedule(3, 50)
    schedule.mark(0)
    assert [schedule.due(149), schedule.due(150), schedule.due(150)] == [False, True, True]


def test_a_clock_that_went_back_makes_a_plan_due():
    schedule = ReplanSchedule(3, 50)
    schedule.mark(10_000)
    assert schedule.due(0)


def test_reset_makes_a_plan_due():
    schedule = ReplanSchedule(3, 50)
    schedule.mark(100)
    schedule.reset()
    assert schedule.due(101)


@pytest.mark.parametrize(("steps", "step_ns"), [(0, 50), (8, 0)])
def test_a_schedule_that_never_advances_is_refused(steps, step_ns):
    with pytest.raises(ValueError) as caught:
        ReplanSchedule(steps, step_ns)
    assert str(caught.value) == (
        f"execution_horizon and step_ns must be at least 1. Got: {steps} and {step_ns}"
    )
