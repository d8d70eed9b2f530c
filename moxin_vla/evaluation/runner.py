"""Many episodes: in this process or several, or over ROS; the same specs and the same judge either
way.
"""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing.util import Finalize

from moxin_vla.core.embodiment import load_embodiment
from moxin_vla.core.protocols import EpisodeSpec
from moxin_vla.evaluation.config import EXPERT, EvaluationConfig
from moxin_vla.evaluation.rollout import EpisodeResult, Rollout, broken_episode
from moxin_vla.runtime.delay import parse_delay


def plan_episodes(config: EvaluationConfig) -> list[tuple[EpisodeSpec, bool]]:
    """Return every episode, family by family, and whether it is filmed."""
    from moxin_sim import sample_episode

    return [
        (sample_episode(family, seed), index < config.videos)
        for family in config.families
        for index, seed in enumerate(config.seeds)
    ]


def run_episodes(
    config: EvaluationConfig,
    episodes: Sequence[tuple[EpisodeSpec, bool]],
    on_result: Callable[[EpisodeResult], None],
) -> list[EpisodeResult]:
    """Run episodes; returns their results in the order of `episodes`.

    Args:
        config: How.
        episodes: What, and whether to film it.
        on_result: Called after each episode, in the order in which they end.
    """
    if config.over == "ros":
        from moxin_vla.evaluation.over_ros import run_over_ros

        return _collected(run_over_ros(config, episodes), on_result)
    if config.workers <= 1:
        return _collected(_run_here(config, episodes), on_result)
    return _run_in_processes(config, episodes, on_result)


def _collected(
    results: Iterator[EpisodeResult], on_result: Callable[[EpisodeResult], None]
) -> list[EpisodeResult]:
    collected = []
    for result in results:
        collected.append(result)
        on_result(result)
    return collected


def _run_here(
    config: EvaluationConfig, episodes: Sequence[tuple[EpisodeSpec, bool]]
) -> Iterator[EpisodeResult]:
    with open_rollout(config) as rollout:
        for spec, video in episodes:
            yield rollout.run(spec, video)


@contextmanager
def open_rollout(config: EvaluationConfig) -> Iterator[Rollout]:
    """Build world and policy in this process; frees the world's GL context at the end, because a
    process may have one only.
    """
    from moxin_sim import ExpertPolicy, Tabletop
    from moxin_vla.policy.loading import load_policy

    embodiment = load_embodiment(config.embodiment)
    world = Tabletop(embodiment)
    try:
        if config.policy == EXPERT:
            policy = ExpertPolicy(world)
        else:
            policy = load_policy(config.policy, embodiment, config.device, config.self_test)
        yield Rollout(
            world,
            policy,
            embodiment,
            config.execution_horizon,
            world.video_frame,
            joiner=config.joiner,
            delays=parse_delay(config.delay, embodiment.step_ns),
        )
    finally:
        world.close()


_worker: Rollout | None = None


def _start_worker(config: EvaluationConfig) -> None:
    global _worker
    opened = open_rollout(config)
    _worker = opened.__enter__()
    # before the interpreter's own exit handlers, which shut the GL library down
    Finalize(None, opened.__exit__, (None, None, None), exitpriority=1)


def _run_one(spec: EpisodeSpec, video: bool) -> EpisodeResult:
    assert _worker is not None
    return _worker.run(spec, video)


def _run_in_processes(
    config: EvaluationConfig,
    episodes: Sequence[tuple[EpisodeSpec, bool]],
    on_result: Callable[[EpisodeResult], None],
) -> list[EpisodeResult]:
    with open_rollout(config):  # a bad checkpoint is refused here, with its own message
        embodiment = load_embodiment(config.embodiment)
    results: dict[int, EpisodeResult] = {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(config.workers, context, _start_worker, (config,)) as pool:
        futures = {pool.submit(_run_one, *episode): i for i, episode in enumerate(episodes)}
        for future in as_completed(futures):
            index = futures[future]
            if lost := future.exception():  # a worker was killed, and took its episode with it
                error = f"{type(lost).__name__}: {lost}"
                results[index] = broken_episode(episodes[index][0], embodiment, error)
            else:
                results[index] = future.result()
            on_result(results[index])
    return [results[index] for index in range(len(episodes))]
