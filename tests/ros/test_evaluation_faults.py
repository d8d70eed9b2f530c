"""When a node ends during an evaluation over ROS, every episode still has its result."""

from types import SimpleNamespace

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: pip install 'moxin_vla[ros]'")

from moxin_vla.core.errors import MoxinVlaError
from moxin_vla.core.protocols import EpisodeSpec, EpisodeStatus
from moxin_vla.evaluation import over_ros
from moxin_vla.evaluation.config import EvaluationConfig
from moxin_vla.ros.bringup import BringupError
from moxin_vla.ros.episode_recorder import RosEpisode

SPECS = [EpisodeSpec(seed, "pick", "pick up the red cube") for seed in range(8)]


class Systems:
    """Stands for Bringup and EpisodeClient; a node ends in the episodes of `deadly`."""

    def __init__(self, deadly=(), refuse_from=99, stuck=()):
        self.deadly, self.refuse_from, self.stuck = set(deadly), refuse_from, set(stuck)
        self.started, self.stopped = 0, 0

    def bringup(self, config, images):
        return _Bringup(self)

    def client(self, embodiment, check):
        return _Client(self, check)


class _Bringup:
    def __init__(self, systems):
        self.systems, self.name = systems, ""

    def __enter__(self):
        if self.systems.started >= self.systems.refuse_from:
            raise BringupError("policy_node: no such checkpoint")
        self.systems.started += 1
        self.systems.running = self
        return self

    def __exit__(self, *_):
        self.systems.stopped += 1

    def ended(self):
        return self.name

    def output(self, name):
        return "its last words"


class _Client:
    def __init__(self, systems, check):
        self.systems, self.check = systems, check

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def run(self, spec, film):
        if spec.seed in self.systems.stuck:
            raise MoxinVlaError("Waited 10 s in vain for the new episode.")
        if spec.seed in self.systems.deadly:
            self.systems.running.name = "policy_node"
        self.check()
        return RosEpisode(spec, EpisodeStatus(0, 160, True))


@pytest.fixture
def play(monkeypatch, embodiment_path):
    def play(systems):
        monkeypatch.setattr(over_ros, "Bringup", systems.bringup)
        monkeypatch.setattr(over_ros, "EpisodeClient", systems.client)
        config = EvaluationConfig(
            "scripted:hold", embodiment_path, ("pick",), len(SPECS), over="ros"
        )
        results = list(over_ros.run_over_ros(config, [(spec, False) for spec in SPECS]))
        assert [result.spec for result in results] == SPECS
        assert systems.started == systems.stopped
        return SimpleNamespace(
            won=[r.spec.seed for r in results if r.success],
            failures={r.spec.seed: r.failure for r in results if not r.success},
        )

    return play


def test_an_episode_in_which_a_node_ends_fails_and_the_rest_goes_on_anew(play):
    systems = Systems(deadly=[2])
    played = play(systems)
    assert played.won == [0, 1, 3, 4, 5, 6, 7] and systems.started == 2
    assert played.failures[2] == (
        "BringupError: policy_node ended while an episode ran.\nits last words"
    )


def test_an_episode_that_hangs_fails_without_a_new_system(play):
    systems = Systems(stuck=[4])
    played = play(systems)
    assert played.failures == {4: "MoxinVlaError: Waited 10 s in vain for the new episode."}
    assert systems.started == 1


def test_a_node_that_always_ends_is_given_up_and_what_was_not_played_says_so(play):
    systems = Systems(deadly=range(8))
    played = play(systems)
    assert played.won == [] and systems.started == 4
    reason = "not played: a node ended in each of 4 systems before"
    assert [played.failures[seed] for seed in (4, 5, 6, 7)] == [reason] * 4


def test_a_system_that_does_not_come_up_again_costs_only_what_is_left(play):
    played = play(Systems(deadly=[1], refuse_from=1))
    assert played.won == [0]
    assert played.failures[7] == (
        "not played: the system could not be brought up again: policy_node: no such checkpoint"
    )


def test_a_system_that_never_comes_up_is_refused(play):
    with pytest.raises(BringupError, match="no such checkpoint"):
        play(Systems(refuse_from=0))
