"""Lockstep over DDS must give what the in-process loop gives, bit for bit."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from moxin_sim import Tabletop, sample_episode
from moxin_vla.core.embodiment import Embodiment
from moxin_vla.evaluation.over_ros import to_result
from moxin_vla.evaluation.rollout import EpisodeResult, Rollout
from moxin_vla.policy.loading import load_policy
from moxin_vla.runtime.delay import parse_delay

EPISODES = [sample_episode("touch", 11), sample_episode("pick", 12), sample_episode("place", 13)]


@pytest.fixture(scope="module")
def checkpoint(embodiment: Embodiment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights: its plans depend on every pixel, so a wrong image shows."""
    pytest.importorskip("torch")
    from moxin_vla.policy.moxin.presets import write_random_checkpoint

    path = tmp_path_factory.mktemp("checkpoint") / "random"
    write_random_checkpoint(path, embodiment, seed=0)
    return path


@pytest.fixture(scope="module")
def world(embodiment: Embodiment) -> Iterator[Tabletop]:
    """One world for the whole process: it may have one GL context only."""
    world = Tabletop(embodiment)
    yield world
    world.close()


@pytest.fixture(scope="module")
def over_ros(start_system: Callable, checkpoint: Path) -> Iterator[SimpleNamespace]:
    with start_system(str(checkpoint)) as running:
        yield running


@pytest.fixture(scope="module")
def in_process(world: Tabletop, embodiment: Embodiment, checkpoint: Path) -> Rollout:
    return Rollout(world, load_policy(str(checkpoint), embodiment), embodiment)


def assert_same(ros: EpisodeResult, here: EpisodeResult) -> None:
    assert (ros.error, here.error) == ("", "")
    assert ros.status == here.status
    assert ros.proprio.shape == here.proprio.shape
    assert np.array_equal(ros.proprio, here.proprio)
    assert np.array_equal(ros.commands, here.commands)
    assert [tick for tick, _ in ros.chunks] == [tick for tick, _ in here.chunks]
    for (_, over_wire), (_, local) in zip(ros.chunks, here.chunks, strict=True):
        assert np.array_equal(over_wire, local)


DELAYED = [("decay_blend", "2"), ("synchronous", "2"), ("state_roll", "spiky:1:3:3")]


@pytest.mark.parametrize(("joiner", "delay"), DELAYED, ids=[name for name, _ in DELAYED])
def test_with_injected_delay_an_episode_is_the_same_over_dds_as_in_process(
    start_system: Callable,
    checkpoint: Path,
    world: Tabletop,
    embodiment: Embodiment,
    joiner,
    delay,
) -> None:
    policy, delays = load_policy(str(checkpoint), embodiment), parse_delay(delay, 50_000_000)
    here = Rollout(world, policy, embodiment, joiner=joiner, delays=delays).run(EPISODES[0])
    with start_system(str(checkpoint), joiner=joiner, delay=delay) as running:
        ros = to_result(running.client.run(EPISODES[0]), embodiment, 0.0)
    assert here.landed[0] == delays.at(0)
    assert_same(ros, here)
    assert ros.loop["chunks waited for in vain"] == 0


@pytest.mark.parametrize("spec", EPISODES, ids=lambda spec: spec.family)
def test_an_episode_is_the_same_over_dds_as_in_process(
    over_ros: SimpleNamespace, in_process: Rollout, embodiment: Embodiment, spec
) -> None:
    here = in_process.run(spec)
    assert len(here.chunks) == -(-here.status.step // 8)  # it did plan, every 8 ticks
    assert_same(to_result(over_ros.client.run(spec), embodiment, 0.0), here)


def test_the_same_episode_again_is_the_same(
    over_ros: SimpleNamespace, embodiment: Embodiment
) -> None:
    once, again = (to_result(over_ros.client.run(EPISODES[0]), embodiment, 0.0) for _ in range(2))
    assert_same(again, once)


def test_another_instruction_reaches_the_policy(
    over_ros: SimpleNamespace, embodiment: Embodiment
) -> None:
    from moxin_sim import other_object_episode

    told = over_ros.client.run(EPISODES[1])
    told_another = over_ros.client.run(other_object_episode(EPISODES[1]))
    assert not np.array_equal(told.chunks[0].actions, told_another.chunks[0].actions)


def test_the_status_at_the_end_counts_the_whole_episode(
    over_ros: SimpleNamespace, in_process: Rollout, embodiment: Embodiment
) -> None:
    ros = to_result(over_ros.client.run(EPISODES[0]), embodiment, 0.0)
    here = in_process.run(EPISODES[0])
    for name in ("ticks", "commits", "velocity_limited", "position_limited", "starved_ticks"):
        assert ros.loop[name] == here.loop[name], name


def test_simulated_time_never_goes_back(over_ros: SimpleNamespace) -> None:
    times = [min(over_ros.client.run(EPISODES[0]).proprio) for _ in range(2)]
    assert times[1] > times[0]
