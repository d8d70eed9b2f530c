"""Many episodes: in this process or several, or over ROS; the same specs and the same judge either
way.
"""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from moxin_vla.core.embodiment import load_embodiment
from moxin_vla.core.protocols import EpisodeSpec
from moxin_vla.evaluation.rollout import EpisodeResult, Rollout

EXPERT = "expert"


@dataclass(frozen=True, slots=True)
class EvaluationConfig:
    """Everything that determines the results.

    Attributes:
        policy: Source for `load_policy`, or `expert`.
        embodiment: Embodiment file.
        families: Task families.
        episodes: Episodes per family.
        first_seed: Seed of the first episode; the others follow.
        execution_horizon: Steps s played from each chunk.
        over: `inprocess` or `ros`.
        mode: With ROS: `lockstep` (deterministic) or `realtime`.
        workers: Processes, in process only; results do not depend on it.
        videos: Episodes per family that are filmed.
        device: Torch device of the policy, in process only.
    """

    policy: str
    embodiment: Path
    families: tuple[str, ...]
    episodes: int
    first_seed: int = 0
    execution_horizon: int = 8
    over: str = "inprocess"
    mode: str = "lockstep"
    workers: int = 1
    videos: int = 3
    device: str = "cpu"

    @property
    def seeds(self) -> range:
        """Seeds of every family."""
        return range(self.first_seed, self.first_seed + self.episodes)


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
    rollout = make_rollout(config)
    for spec, video in episodes:
        yield rollout.run(spec, video)


def make_rollout(config: EvaluationConfig) -> Rollout:
    """Build world and policy in this process."""
    from moxin_sim import ExpertPolicy, Tabletop

    from moxin_vla.policy.loading import load_policy

    embodiment = load_embodiment(config.embodiment)
    world = Tabletop(embodiment)
    if config.policy == EXPERT:
        policy = ExpertPolicy(world)
    else:
        policy = load_policy(config.policy, embodiment, config.device)
    return Rollout(world, policy, embodiment, config.execution_horizon, world.video_frame)


_worker: Rollout | None = None


def _start_worker(config: EvaluationConfig) -> None:
    global _worker
    _worker = make_rollout(config)


def _run_one(index: int, spec: EpisodeSpec, video: bool) -> tuple[int, EpisodeResult]:
    assert _worker is not None
    return index, _worker.run(spec, video)


def _run_in_processes(
    config: EvaluationConfig,
    episodes: Sequence[tuple[EpisodeSpec, bool]],
    on_result: Callable[[EpisodeResult], None],
) -> list[EpisodeResult]:
    make_rollout(config)  # a bad checkpoint is refused here, with its own message
    results: dict[int, EpisodeResult] = {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(config.workers, context, _start_worker, (config,)) as pool:
        futures = [pool.submit(_run_one, i, spec, v) for i, (spec, v) in enumerate(episodes)]
        for future in as_completed(futures):
            index, result = future.result()
            results[index] = result
            on_result(result)
    return [results[index] for index in range(len(episodes))]
