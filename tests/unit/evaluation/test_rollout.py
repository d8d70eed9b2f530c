"""The in-process loop, in a world that is only a counter."""

from pathlib import Path

import numpy as np
import pytest

from moxin_vla.core.embodiment import load_embodiment
from moxin_vla.core.errors import EmbodimentError, PolicyError, SimulationError
from moxin_vla.core.protocols import EpisodeSpec, EpisodeStatus, PolicySpec
from moxin_vla.core.types import ActionChunk
from moxin_vla.evaluation.config import EvaluationError
from moxin_vla.evaluation.report import write_html, write_json
from moxin_vla.evaluation.rollout import Rollout
from moxin_vla.evaluation.statistics import by_family
from moxin_vla.policy.scripted import ScriptedPolicy
from moxin_vla.runtime.delay import DelayError, DelayTrace

EMBODIMENT = load_embodiment(
    Path(__file__).resolve().parents[3] / "config" / "embodiments" / "so101_sim.yaml"
)
SPEC = EpisodeSpec(0, "pick", "pick up the red cube")


class CountingWorld:
    """Follows every command at once; succeeds after `succeed_at` steps."""

    def __init__(self, succeed_at=20, horizon=40, failure=""):
        self.succeed_at, self.horizon, self.failure = succeed_at, horizon, failure
        self.rendered = 0

    def reset(self, episode):
        self.count, self.joints = 0, np.array([0.1, -0.5, 0.5, 1.0, 0.0, 0.4])

    def proprio(self):
        return self.joints.copy()

    def images(self):
        self.rendered += 1
        return {c.name: np.zeros((96, 96, 3), np.uint8) for c in EMBODIMENT.cameras}

    def step(self, positions):
        self.count, self.joints = self.count + 1, positions.copy()

    def status(self):
        done = self.count >= self.succeed_at
        return EpisodeStatus(
            self.count, self.horizon, done and not self.failure, self.failure if done else ""
        )


class LookingPolicy(ScriptedPolicy):
    """Sweeps, and wants to see."""

    def __init__(self):
        super().__init__("sweep", EMBODIMENT)
        self.seen = []

    @property
    def spec(self):
        return PolicySpec("looking", EMBODIMENT.joint_names, ("front", "wrist"), 16, 20.0, "abc")

    def infer(self, observation):
        self.seen.append((observation.time_ns, observation.instruction, set(observation.images)))
        return super().infer(observation)


def test_it_looks_only_when_a_plan_is_due():
    world, policy = CountingWorld(), LookingPolicy()
    result = Rollout(world, policy, EMBODIMENT, execution_horizon=8).run(SPEC)
    assert result.success and result.status.step == 20
    assert world.rendered == 3  # ticks 0, 8, 16
    assert [t for t, _, _ in policy.seen] == [0, 400_000_000, 800_000_000]
    assert policy.seen[0][1:] == ("pick up the red cube", {"front", "wrist"})
    assert result.proprio.shape == result.commands.shape == (20, 6)
    assert [tick for tick, _ in result.chunks] == [0, 8, 16]


def test_with_delay_a_plan_is_played_from_where_it_becomes_visible():
    policy = LookingPolicy()
    played = Rollout(CountingWorld(), policy, EMBODIMENT, delays=DelayTrace("3", (3,))).run(SPEC)
    assert [tick for tick, _ in played.chunks] == [0, 8, 16]
    assert played.landed == [3, 11, 19]
    assert np.array_equal(played.commands[:3], np.tile(played.proprio[0], (3, 1)))  # stands still
    assert np.array_equal(played.commands[3:11], played.chunks[0][1][:8])
    assert np.array_equal(played.commands[11:19], played.chunks[1][1][3:11])


def test_a_spike_beyond_the_plan_holds_the_arm_and_is_counted():
    delays = DelayTrace("spiky", (1, 1, 12))
    result = Rollout(CountingWorld(40), LookingPolicy(), EMBODIMENT, delays=delays).run(SPEC)
    assert result.landed[:4] == [1, 9, 28, 29]
    assert result.loop["starved_ticks"] == 28 - 24  # H = 16 steps from tick 8 on
    assert len(np.unique(result.commands[23:28, 0])) == 1
    assert np.array_equal(
        result.commands[28], result.chunks[2][1][8]
    )  # 8 of its steps have passed


def test_the_policy_is_told_what_is_committed_by_the_joiner_that_does_so():
    class Told(LookingPolicy):
        def infer(self, observation):
            self.seen.append(observation.committed)
            return ScriptedPolicy.infer(self, observation)

    policy = Told()
    played = Rollout(
        CountingWorld(), policy, EMBODIMENT, joiner="prefix", delays=DelayTrace("2", (2,))
    ).run(SPEC)
    assert [len(committed) for committed in policy.seen] == [0, 2, 2]
    assert np.array_equal(policy.seen[1], played.commands[8:10])
    assert np.array_equal(policy.seen[2], played.commands[16:18])


def test_a_delay_that_cannot_be_bridged_is_refused():
    with pytest.raises(DelayError, match="A delay of d = 9 steps needs d <= s <= H - d"):
        Rollout(CountingWorld(), LookingPolicy(), EMBODIMENT, delays=DelayTrace("9", (9,)))


def test_two_runs_are_equal():
    rollout = Rollout(CountingWorld(), LookingPolicy(), EMBODIMENT)
    one, two = rollout.run(SPEC), rollout.run(SPEC)
    assert np.array_equal(one.commands, two.commands) and len(np.unique(one.commands[:, 0])) > 10


def test_nan_is_held_and_counted():
    policy = ScriptedPolicy("nan", EMBODIMENT)
    result = Rollout(CountingWorld(30), policy, EMBODIMENT).run(SPEC)
    assert np.all(np.isfinite(result.commands))
    assert result.loop["not_finite"] == 3 and result.loop["rejected"] == {"not_finite": 3}
    assert result.loop["reason"] == "the policy returned NaN or infinity"
    assert np.all(result.commands[8:] == result.commands[8])


def test_a_policy_that_raises_is_a_failed_episode_not_a_crash():
    class Broken(LookingPolicy):
        def infer(self, observation) -> ActionChunk:
            raise PolicyError("out of order")

    result = Rollout(CountingWorld(), Broken(), EMBODIMENT).run(SPEC)
    assert not result.success and result.failure == "PolicyError: out of order"


def test_a_world_that_breaks_is_a_failed_episode_with_what_happened_until_then():
    class Fragile(CountingWorld):
        def step(self, positions):
            if self.count == 10:
                raise SimulationError("the physics blew up")
            super().step(positions)

    result = Rollout(Fragile(), LookingPolicy(), EMBODIMENT).run(SPEC)
    assert result.failure == "SimulationError: the physics blew up"
    assert result.status.step == 10 and result.proprio.shape == (11, 6)
    assert result.sim_s == 0.5


def test_an_episode_that_cannot_be_set_up_does_not_inherit_the_last_one():
    class Refusing(CountingWorld):
        def reset(self, episode):
            if episode.seed == 1:
                raise SimulationError("no such scene")
            super().reset(episode)

    rollout = Rollout(Refusing(), LookingPolicy(), EMBODIMENT)
    assert rollout.run(SPEC).success
    refused = rollout.run(EpisodeSpec(1, "pick", "pick up the red cube"))
    assert refused.failure == "SimulationError: no such scene" and not refused.success
    assert refused.status.step == 0 and refused.commands.shape == (0, 6)
    assert rollout.run(SPEC).success  # and the next one is not spoilt


def test_the_horizon_ends_an_episode_in_which_nothing_happens():
    result = Rollout(CountingWorld(99, horizon=12), LookingPolicy(), EMBODIMENT).run(SPEC)
    assert result.status.step == len(result.commands) == 12
    assert result.failure == "ran out of time"


def test_playing_more_than_the_policy_predicts_is_refused():
    with pytest.raises(EvaluationError, match="predicts H = 16 steps"):
        Rollout(CountingWorld(), LookingPolicy(), EMBODIMENT, execution_horizon=17)


def test_frames_are_taken_only_when_asked_for_at_every_second_tick():
    frame = np.zeros((240, 320, 3), np.uint8)
    rollout = Rollout(CountingWorld(), LookingPolicy(), EMBODIMENT, camera=lambda: frame)
    assert rollout.run(SPEC).frames == []
    assert len(rollout.run(SPEC, video=True).frames) == 10


def test_a_policy_for_another_robot_is_refused():
    class Other(LookingPolicy):
        @property
        def spec(self):
            return PolicySpec("other", ("a", "b"), (), 16, 20.0)

    with pytest.raises(EmbodimentError, match="found in the checkpoint:    a, b"):
        Rollout(CountingWorld(), Other(), EMBODIMENT)


def test_a_failure_ends_the_episode_with_its_reason():
    world = CountingWorld(5, failure="moved the blue cube")
    result = Rollout(world, LookingPolicy(), EMBODIMENT).run(SPEC)
    assert result.status.step == 5 and result.failure == "moved the blue cube"


def test_the_report_holds_every_episode_and_every_setting(tmp_path):
    good = Rollout(CountingWorld(), LookingPolicy(), EMBODIMENT).run(SPEC)
    bad = Rollout(CountingWorld(5, failure="moved <b> it"), LookingPolicy(), EMBODIMENT).run(
        EpisodeSpec(41, "place", "put the blue cube in the bowl")
    )
    determined = [("policy fingerprint", "abc123"), ("seeds per family", "0 to 1")]
    write_html(tmp_path / "r.html", "Title", EMBODIMENT, [good, bad], determined)
    write_json(tmp_path / "r.json", by_family([good, bad]), [good, bad], determined)
    page = (tmp_path / "r.html").read_text()
    for text in (
        "pick up the red cube",
        "put the blue cube in the bowl",
        "place, seed 41",
        "abc123",
        "0 to 1",
        "moved &lt;b&gt; it",
        "1 / 2",
        "shoulder_pan",
        "polyline",
    ):
        assert text in page, text
    assert "http" not in page.replace("http://www.w3.org", "")
    import json

    content = json.loads((tmp_path / "r.json").read_text())
    assert [e["success"] for e in content["episodes"]] == [True, False]
    assert content["settings"]["policy fingerprint"] == "abc123"
