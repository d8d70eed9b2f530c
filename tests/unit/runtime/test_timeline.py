"""The timeline plays the newest accepted chunk by the clock."""

import numpy as np
import pytest

from moxin_vla.core.types import ActionChunk, CommitReason
from moxin_vla.runtime.joiners import make_joiner
from moxin_vla.runtime.timeline import Timeline

STEP = 50


def chunk(observed_ns, steps=4, dof=2, step_ns=STEP, base=0.0):
    """Return a chunk whose step i is all `base + i`."""
    return ActionChunk(observed_ns, step_ns, base + np.arange(steps)[:, None] * np.ones(dof))


@pytest.fixture
def timeline():
    return Timeline(dof=2, step_ns=STEP)


def played(timeline, now_ns):
    action = timeline.sample(now_ns)
    return None if action is None else action.positions[0]


def test_an_empty_timeline_is_starved(timeline):
    assert timeline.sample(0) is None
    assert timeline.steps_left(0) == 0
    assert timeline.observation_time_ns is None


def test_between_two_steps_the_plan_is_played_in_proportion(timeline):
    timeline.commit(chunk(100), 100)
    times = [99, 100, 125, 150, 190, 200, 299, 300]
    expected = [None, 0, 0.5, 1, pytest.approx(1.8), 2, 3, None]
    assert [played(timeline, t) for t in times] == expected
    assert [timeline.steps_left(t) for t in times] == [0, 4, 4, 3, 3, 2, 1, 0]


def test_on_the_grid_the_steps_are_played_bit_for_bit(timeline):
    plan = ActionChunk(100, STEP, np.random.default_rng(0).normal(size=(4, 2)))
    timeline.commit(plan, 100)
    assert np.array_equal(timeline.upcoming(150, 9), plan.actions[1:])


def test_an_action_carries_the_time_it_is_for(timeline):
    timeline.commit(chunk(100), 100)
    assert timeline.sample(170).time_ns == 170


def test_steps_that_have_passed_are_trimmed(timeline):
    verdict = timeline.commit(chunk(100), 220)
    assert verdict.accepted and verdict.trimmed_steps == 2
    assert played(timeline, 220) == pytest.approx(2.4)


def test_a_newer_chunk_takes_over_at_once(timeline):
    timeline.commit(chunk(100), 100)
    assert timeline.commit(chunk(150, base=10.0), 170).accepted
    assert played(timeline, 170) == pytest.approx(10.4)
    assert timeline.observation_time_ns == 150


def test_a_new_plan_from_the_same_observation_replaces_the_old(timeline):
    timeline.commit(chunk(100), 100)
    assert timeline.commit(chunk(100, base=10.0), 150).accepted
    assert played(timeline, 150) == 11.0


def with_nan():
    actions = np.zeros((4, 2))
    actions[3, 1] = np.nan
    return ActionChunk(150, STEP, actions)


@pytest.mark.parametrize(
    ("offered", "reason"),
    [
        (chunk(150, dof=3), CommitReason.WRONG_SHAPE),
        (chunk(150, step_ns=STEP + 1), CommitReason.WRONG_STEP),
        (with_nan(), CommitReason.NOT_FINITE),
        (chunk(201), CommitReason.FROM_THE_FUTURE),
        (chunk(99), CommitReason.OUT_OF_ORDER),
        (chunk(150, steps=1), CommitReason.STALE),
    ],
)
def test_a_refused_chunk_leaves_no_trace(timeline, offered, reason):
    timeline.commit(chunk(100), 100)
    verdict = timeline.commit(offered, 200)
    assert verdict.reason is reason and not verdict.accepted
    assert played(timeline, 200) == 2
    assert timeline.observation_time_ns == 100


def test_a_chunk_is_stale_from_the_moment_its_last_step_ends(timeline):
    assert timeline.commit(chunk(100), 300).reason is CommitReason.STALE
    assert timeline.commit(chunk(100), 299).accepted


def test_reset_forgets_the_chunk(timeline):
    timeline.commit(chunk(100), 100)
    timeline.reset()
    assert timeline.sample(100) is None
    assert timeline.commit(chunk(50), 100).accepted


def test_a_chunk_from_before_the_last_reset_is_of_another_session(timeline):
    timeline.reset(after_ns=100)
    verdict = timeline.commit(chunk(100), 120)
    assert verdict.reason is CommitReason.WRONG_SESSION
    assert verdict.reason.value == "wrong session: observed before the last reset"
    assert timeline.commit(chunk(101), 120).accepted


def test_after_the_clock_was_set_far_back_every_chunk_counts(timeline):
    timeline.reset(after_ns=5_000_000_000)
    assert timeline.commit(chunk(100), 120).accepted


def test_the_joiner_decides_how_a_chunk_joins_the_plan():
    timeline = Timeline(2, STEP, make_joiner("synchronous", 2, []))
    timeline.commit(chunk(100), 250)
    assert [played(timeline, t) for t in (250, 300, 350)] == [0, 1, None]


def resuming():
    return Timeline(2, STEP, make_joiner("naive", 2, []))


def test_a_chunk_that_resumes_begins_where_the_arm_stands():
    timeline = resuming()
    verdict = timeline.commit(chunk(100), 220)
    assert verdict.accepted and verdict.trimmed_steps == 0
    assert [played(timeline, t) for t in (200, 250, 300, 350, 400)] == [0, 1, 2, 3, None]


def test_only_the_steps_before_the_plan_ran_out_have_passed():
    timeline = resuming()
    timeline.commit(chunk(100), 100)  # plays until 300
    verdict = timeline.commit(chunk(250, base=10.0), 410)  # one step played, then two still
    assert verdict.trimmed_steps == 1
    assert [played(timeline, t) for t in (400, 450, 500, 550)] == [11, 12, 13, None]


def test_a_chunk_that_joins_a_running_plan_is_trimmed_by_the_clock():
    timeline = resuming()
    timeline.commit(chunk(100, steps=8), 100)
    assert timeline.commit(chunk(200, base=10.0), 310).trimmed_steps == 2
    assert played(timeline, 300) == 12


def test_a_chunk_of_which_everything_has_passed_is_stale_even_for_an_arm_that_stands():
    assert resuming().commit(chunk(100), 300).reason is CommitReason.STALE


def test_the_upcoming_targets_end_with_the_plan(timeline):
    assert timeline.upcoming(100, 2).shape == (0, 2)
    timeline.commit(chunk(100), 100)
    assert timeline.upcoming(200, 3)[:, 0].tolist() == [2, 3]
    assert timeline.upcoming(9000, 1).shape == timeline.upcoming(50, 1).shape == (0, 2)
    assert timeline.upcoming(100, 0).shape == (0, 2)
