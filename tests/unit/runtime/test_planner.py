"""When plans are due and visible, and what is committed until then."""

import numpy as np
import pytest

from moxin_vla.core.types import ActionChunk, Observation
from moxin_vla.runtime.delay import DelayTrace
from moxin_vla.runtime.joiners import make_joiner
from moxin_vla.runtime.latency import DelayEstimate, StageLatencies
from moxin_vla.runtime.planner import Planner
from moxin_vla.runtime.requests import Requests

STEP, S, H = 50, 4, 8


def played(joiner, delays, ticks=24):
    """Return (tick asked, tick visible) of every request, as a driver would make them."""
    requests = Requests(make_joiner(joiner, S, [1]), S, STEP, DelayTrace("d", delays))
    asked, pairs = None, []
    for tick in range(ticks):
        while requests.due(tick * STEP) or requests.visible(tick * STEP):
            if requests.due(tick * STEP):
                requests.ask(tick * STEP)
                asked = tick
            if requests.visible(tick * STEP):
                requests.land(tick * STEP)
                pairs.append((asked, tick))
    return pairs


def test_a_plan_is_due_every_s_steps_and_visible_d_later():
    assert played("naive", (0,)) == [(t, t) for t in range(0, 24, 4)]
    assert played("naive", (3,))[:4] == [(0, 3), (4, 7), (8, 11), (12, 15)]


def test_a_spike_keeps_the_next_request_waiting():
    assert played("naive", (1, 6))[:4] == [(0, 1), (4, 10), (10, 11), (14, 20)]


def test_a_joiner_that_waits_plays_s_steps_after_each_arrival():
    assert played("synchronous", (3,))[:3] == [(0, 3), (7, 10), (14, 17)]


def test_a_joiner_that_plans_every_step_asks_again_as_soon_as_it_may():
    assert played("temporal_ensemble", (0,))[:3] == [(0, 0), (1, 1), (2, 2)]
    assert played("temporal_ensemble", (2,))[:3] == [(0, 2), (2, 4), (4, 6)]


def test_requests_from_before_the_clock_went_back_are_forgotten():
    requests = Requests(make_joiner("synchronous", S, [1]), S, STEP, DelayTrace("3", (3,)))
    requests.ask(1000)
    assert not requests.due(1050) and requests.due(100)
    requests.ask(100)
    assert requests.asked_ns == 100 and requests.visible_ns == 250


def test_the_schedule_follows_a_policy_that_began_anew():
    requests = Requests(make_joiner("naive", S, [1]), S, STEP, DelayTrace("0", (0,)))
    requests.ask(0)
    requests.land(100, observed_ns=100)
    assert not requests.due(200) and requests.due(300)


def test_without_injected_delay_an_answer_is_visible_when_it_lands():
    requests = Requests(make_joiner("naive", S, [1]), S, STEP)
    requests.ask(0)
    assert not requests.visible(10_000) and not requests.due(10_000)
    requests.land(70)
    assert requests.due(200)


@pytest.fixture
def planner():
    return Planner(make_joiner("prefix", S, [1]), S, 2, STEP, DelayTrace("2", (2,)))


def observed(time_ns, pose=0.5):
    return Observation(time_ns, {}, np.array([pose, pose]), "touch the red cube")


def ramp(time_ns):
    return ActionChunk(time_ns, STEP, np.arange(H)[:, None] * np.ones(2) + time_ns)


def test_before_any_plan_nothing_is_committed(planner):
    assert planner.ask(observed(0)).committed.shape == (0, 2)


def test_the_committed_steps_are_those_that_are_played_until_the_answer_comes(planner):
    planner.ask(observed(0))
    planner.land(ramp(0), 100)
    shown = planner.ask(observed(200))
    assert shown.committed[:, 0].tolist() == [2.0, 3.0]  # it began at 100, not at 0
    plan = planner.answer(ramp(200))
    assert plan.actions[:3, 0].tolist() == [2.0, 3.0, 202.0]


def test_past_the_end_of_a_plan_nothing_is_committed(planner):
    planner.ask(observed(0))
    planner.land(ramp(0), 100)  # plays until 500
    assert planner.ask(observed(450)).committed[:, 0].tolist() == [7.0]
    planner.land(None, 500)
    assert planner.ask(observed(550)).committed.shape == (0, 2)


def test_a_request_that_fails_leaves_the_plan(planner):
    planner.ask(observed(0))
    planner.land(ramp(0), 100)
    planner.ask(observed(200))
    planner.land(None, 300)
    assert planner.ask(observed(400)).committed[:, 0].tolist() == [6.0, 7.0]


def test_the_worst_recent_delay_is_planned_for():
    planner = Planner(
        make_joiner("naive", S, [1]), S, 2, STEP, DelayTrace("spiky", (1, 3)), extra_ns=10
    )
    assert planner.delay_steps == 1
    planner.ask(observed(0))
    planner.land(ramp(0), 50)
    assert planner.delay_steps == 2  # 50 + 10 ns are more than one step
    planner.ask(observed(200))
    planner.land(ramp(200), 350)
    assert planner.delay_steps == 4
    planner.reset()
    assert planner.delay_steps == 1


def test_an_old_spike_is_forgotten():
    estimate = DelayEstimate(STEP, window=2)
    assert estimate.steps is None
    for delay_ns in (170, 40, 0):
        estimate.add(delay_ns)
    assert estimate.steps == 1


def test_latencies_are_told_per_stage():
    latencies = StageLatencies(("decode", "inference"))
    for duration_ms in (1, 2, 9):
        latencies.add("inference", duration_ms * 1_000_000)
    told = latencies.percentiles()
    assert told["inference p50 ms"] == "2.0" and told["inference p99 ms"] == "8.9"
    assert told["decode p50 ms"] == "nan"
