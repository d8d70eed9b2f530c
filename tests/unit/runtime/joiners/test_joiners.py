"""How a new chunk joins the plan: what every joiner promises, and what each one does."""

import numpy as np
import pytest

from moxin_vla.core.errors import MoxinVlaError
from moxin_vla.core.types import ActionChunk, Observation
from moxin_vla.runtime.joiners import JOINERS, make_joiner
from moxin_vla.runtime.joiners.decay_blend import decay_weights
from moxin_vla.runtime.joiners.gated import Gated
from moxin_vla.runtime.timeline import Timeline

STEP, H, S, GRIPPER = 50, 8, 4, 2


def chunk(tick, value, gripper=0.0):
    """Return a chunk observed at a tick whose arm targets are all `value`."""
    actions = np.full((H, 3), float(value))
    actions[:, GRIPPER] = gripper
    return ActionChunk(tick * STEP, STEP, actions)


def observation(committed):
    return Observation(200, {}, np.array([0.5, 0.5, 0.5]), "touch the red cube", committed)


def make(name):
    return make_joiner(name, S, [GRIPPER])


@pytest.fixture(params=JOINERS)
def joiner(request):
    return make(request.param)


class TestEveryJoiner:
    def test_the_first_chunk_is_played_as_it_is(self, joiner):
        joined = joiner.join(None, chunk(0, 7.0), 0)
        assert np.all(joined.actions[:S] == chunk(0, 7.0).actions[:S])

    def test_the_plan_carries_the_new_stamp(self, joiner):
        planned = joiner.join(None, chunk(0, 0.0), 0)
        assert joiner.join(planned, chunk(4, 1.0), 5 * STEP).observation_time_ns == 4 * STEP

    def test_plans_that_agree_are_not_changed(self, joiner):
        planned = joiner.join(None, chunk(0, 3.0), 0)
        joined = joiner.join(planned, chunk(4, 3.0), 5 * STEP)
        assert np.allclose(joined.actions[1:, :2], 3.0, rtol=0, atol=1e-12)

    def test_no_target_lies_outside_what_was_planned(self, joiner):
        planned = joiner.join(None, chunk(0, 0.0), 0)
        joined = joiner.join(planned, chunk(4, 1.0), 5 * STEP)
        assert np.all((joined.actions[1:] >= -1e-12) & (joined.actions[1:] <= 1 + 1e-12))

    def test_the_gripper_is_never_averaged(self, joiner):
        planned = joiner.join(None, chunk(0, 0.0, gripper=0.0), 0)
        joined = joiner.join(planned, chunk(4, 0.1, gripper=1.0), 5 * STEP)
        assert set(joined.actions[:, GRIPPER].tolist()) <= {0.0, 1.0}

    def test_what_is_offered_is_not_changed(self, joiner):
        planned, new = chunk(0, 0.0), chunk(4, 1.0)
        joiner.join(joiner.join(None, planned, 0), new, 5 * STEP)
        assert np.all(planned.actions[:, 0] == 0.0) and np.all(new.actions[:, 0] == 1.0)

    def test_without_delay_the_policy_is_asked_and_answers_as_ever(self, joiner):
        seen = observation(np.empty((0, 3)))
        assert joiner.ask(seen) is seen
        assert np.array_equal(joiner.answer(seen, chunk(4, 1.0)).actions, chunk(4, 1.0).actions)

    def test_the_same_calls_after_a_reset_give_the_same_plan(self, joiner):
        def play():
            joiner.reset()
            planned = None
            for tick in (0, 4, 8):
                planned = joiner.join(planned, chunk(tick, tick), (tick + 1) * STEP)
            return planned.actions

        assert np.array_equal(play(), play())


def test_an_unknown_joiner_is_refused_with_the_known_ones():
    with pytest.raises(MoxinVlaError) as refused:
        make("magic")
    assert str(refused.value) == (
        "Unknown joiner 'magic'. Choose from: synchronous, naive, decay_blend, temporal_ensemble, "
        "gated, state_roll, prefix"
    )


@pytest.mark.parametrize("name", [name for name in JOINERS if name != "prefix"])
def test_only_the_prefix_tells_the_policy_what_is_committed(name):
    seen = observation(np.ones((2, 3)))
    assert len(make(name).ask(seen).committed) == 0
    assert len(make("prefix").ask(seen).committed) == 2


def test_synchronous_plays_s_steps_from_where_the_chunk_arrives_and_no_more():
    timeline = Timeline(3, STEP, make("synchronous"))
    new = ActionChunk(4 * STEP, STEP, np.arange(H)[:, None] * np.ones(3))
    assert timeline.commit(new, 6 * STEP).trimmed_steps == 0
    assert timeline.upcoming(6 * STEP, H)[:, 0].tolist() == [0.0, 1.0, 2.0, 3.0]
    assert make("synchronous").waits


def test_naive_takes_over_at_once():
    assert np.all(make("naive").join(chunk(0, 0.0), chunk(4, 1.0), 5 * STEP).actions[:, 0] == 1.0)


def test_decay_weights_are_those_of_real_time_chunking():
    # H = 8, s = 3, d = 2: 1 1 then c = 3/4, 2/4, 1/4 through c (e^c - 1) / (e - 1)
    c = np.array([3, 2, 1]) / 4
    expected = [1.0, 1.0, *(c * (np.exp(c) - 1) / (np.e - 1))]
    assert np.allclose(decay_weights(2, 5), expected, rtol=1e-12)
    assert decay_weights(0, 0).tolist() == []
    assert decay_weights(5, 3).tolist() == [1.0, 1.0, 1.0]


def test_the_blend_fades_from_the_old_plan_to_the_new_over_their_overlap():
    joined = make("decay_blend").join(chunk(0, 0.0), chunk(4, 1.0), 5 * STEP)
    arm = joined.actions[:, 0]
    assert arm[0] == 0.0 and np.all(np.diff(arm[:5]) > 0) and np.all(arm[4:] == 1.0)


def test_the_blend_keeps_the_old_gripper_until_the_delay_is_over():
    joined = make("decay_blend").join(chunk(0, 0, 0.0), chunk(4, 1, 1.0), 6 * STEP)
    assert joined.actions[:, GRIPPER].tolist() == [0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]


def test_the_ensemble_averages_all_plans_for_a_moment_the_oldest_weighing_most():
    joiner, planned = make("temporal_ensemble"), None
    for tick, value in ((0, 0.0), (1, 1.0), (2, 5.0)):
        planned = joiner.join(planned, chunk(tick, value), tick * STEP)
    weights = np.exp(-0.01 * np.arange(3))
    assert planned.actions[0, 0] == pytest.approx(weights @ [0.0, 1.0, 5.0] / weights.sum())
    assert planned.actions[6, 0] == pytest.approx(weights[:2] @ [1.0, 5.0] / weights[:2].sum())
    assert planned.actions[7, 0] == 5.0  # only the newest reaches so far
    assert joiner.every_step


def test_the_ensemble_forgets_plans_that_have_ended():
    joiner = make("temporal_ensemble")
    planned = joiner.join(None, chunk(0, 100.0), 0)
    assert joiner.join(planned, chunk(H, 1.0), H * STEP).actions[0, 0] == 1.0


@pytest.mark.parametrize(
    ("apart_rad", "expected"),
    [(0.01, "new"), (0.05, "blend"), (0.5, "old")],
)
def test_the_gate_goes_by_how_far_plans_are_apart(apart_rad, expected):
    old, new = chunk(0, 0.0), chunk(4, apart_rad)
    joined = make("gated").join(old, new, 5 * STEP).actions[:, 0]
    blend = make("decay_blend").join(old, new, 5 * STEP).actions[:, 0]
    finished = np.array([0.0] * 4 + [apart_rad] * 4)
    assert np.array_equal(
        joined, {"new": new.actions[:, 0], "blend": blend, "old": finished}[expected]
    )


def test_a_policy_that_insists_gets_its_way():
    joiner = Gated([GRIPPER])
    planned = joiner.join(None, chunk(0, 0.0), 0)
    planned = joiner.join(planned, chunk(4, 1.0), 5 * STEP)
    assert planned.actions[3, 0] == 0.0 and joiner.finished == 1
    planned = joiner.join(planned, chunk(6, -1.0), 7 * STEP)
    assert planned.actions[-1, 0] == -1.0 and joiner.finished == 1
    assert planned.actions[3, 0] < 0.5  # blended, not finished


def test_the_gripper_has_no_say_in_the_gate():
    joined = make("gated").join(chunk(0, 0.0, gripper=0.0), chunk(4, 0.0, gripper=1.0), 5 * STEP)
    assert np.all(joined.actions[1:, GRIPPER] == 1.0)


def test_the_state_is_rolled_to_the_last_committed_target():
    committed = np.array([[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]])
    joiner, seen = make("state_roll"), observation(committed)
    assert joiner.ask(seen).proprio.tolist() == [2.0, 2.0, 2.0]
    plan = joiner.answer(seen, chunk(4, 9.0))
    assert plan.actions[:, 0].tolist() == [1.0, 2.0] + [9.0] * H
    assert plan.observation_time_ns == 4 * STEP


def test_the_prefix_keeps_the_committed_steps_in_the_plan():
    committed = np.array([[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]])
    plan = make("prefix").answer(observation(committed), chunk(4, 9.0))
    assert plan.actions[:, 0].tolist() == [1.0, 2.0] + [9.0] * (H - 2)
