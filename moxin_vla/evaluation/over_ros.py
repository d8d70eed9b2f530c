"""Episodes over ROS 2: the nodes in processes of their own, the same specs, the same judge."""

import bisect
import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from moxin_vla.core.embodiment import Embodiment, load_embodiment
from moxin_vla.core.errors import MoxinVlaError
from moxin_vla.core.protocols import EpisodeSpec
from moxin_vla.evaluation.config import EvaluationConfig
from moxin_vla.evaluation.rollout import EpisodeResult, broken_episode
from moxin_vla.ros.bringup import Bringup, BringupError
from moxin_vla.ros.episode_client import EpisodeClient, RosEpisode
from moxin_vla.runtime.delay import parse_delay
from moxin_vla.system import SystemConfig

_NEW_SYSTEMS = 3  # after a node has ended; more means that it will end again
_SHOWN_OUTPUT = 1500  # characters of what a node printed last
_PRIVATE_DOMAINS = (60, 100)  # clear of the default, and low enough for every platform's ports


def private_domain() -> int:
    """Return a ROS domain id of this process's own."""
    first, last = _PRIVATE_DOMAINS
    return first + os.getpid() % (last - first)


def run_over_ros(
    config: EvaluationConfig, episodes: Sequence[tuple[EpisodeSpec, bool]]
) -> Iterator[EpisodeResult]:
    """Bring the system up, play the episodes, yield each result as it ends.

    An episode in which a node ends is a failure; the next one gets a new system, up to
    `_NEW_SYSTEMS` times. After that the rest are failures that were not played.

    Raises:
        BringupError: The system can't be brought up at all.
    """
    embodiment = load_embodiment(config.embodiment)
    waiting, systems = deque(episodes), 0
    while waiting and systems <= _NEW_SYSTEMS:
        try:
            yield from _on_one_system(config, embodiment, waiting)
        except BringupError as error:  # of bringing up; one of an episode is in its result
            if not systems:
                raise
            reason = f"not played: the system could not be brought up again: {error}"
            break
        systems += 1
    else:
        reason = f"not played: a node ended in each of {systems} systems before"
    for spec, _ in waiting:
        yield broken_episode(spec, embodiment, reason)


def _on_one_system(
    config: EvaluationConfig, embodiment: Embodiment, waiting: deque[tuple[EpisodeSpec, bool]]
) -> Iterator[EpisodeResult]:
    """Take episodes from `waiting` and play them, until none is left or a node ends."""
    system_config = SystemConfig(
        embodiment=config.embodiment,
        policy=config.policy,
        mode=config.mode,
        execution_horizon=config.execution_horizon,
        joiner=config.joiner,
        delay=config.delay,
        device=config.device,
        self_test=config.self_test,
        domain_id=private_domain(),
    )
    with Bringup(system_config, images=True) as system:

        def check() -> None:
            if name := system.ended():
                output = system.output(name)[-_SHOWN_OUTPUT:]
                raise BringupError(f"{name} ended while an episode ran.\n{output}")

        with EpisodeClient(embodiment, check) as client:
            while waiting and not system.ended():
                spec, video = waiting.popleft()
                result = _play(client, embodiment, spec, video)
                yield _with_landings(result, config, embodiment)


def _play(
    client: EpisodeClient, embodiment: Embodiment, spec: EpisodeSpec, video: bool
) -> EpisodeResult:
    started = time.perf_counter()
    try:
        episode = client.run(spec, video)
    except MoxinVlaError as broken:  # counted and shown, never dropped
        return broken_episode(spec, embodiment, f"{type(broken).__name__}: {broken}")
    return to_result(episode, embodiment, time.perf_counter() - started)


def _with_landings(
    result: EpisodeResult, config: EvaluationConfig, embodiment: Embodiment
) -> EpisodeResult:
    """Add the ticks at which plans became visible; in lockstep the injected delay tells."""
    if config.mode != "lockstep":
        return result
    delays = parse_delay(config.delay, embodiment.step_ns)
    ticks = [tick + delays.at(plan) for plan, (tick, _) in enumerate(result.chunks)]
    return replace(result, landed=[tick for tick in ticks if tick < len(result.commands)])


def to_result(episode: RosEpisode, embodiment: Embodiment, wall_s: float) -> EpisodeResult:
    """Bring what the topics showed into the form of an in-process result."""
    step_ns = embodiment.step_ns
    times = sorted(episode.proprio)[
        : episode.status.step
    ]  # the state after the last step has no command
    commands = [_command_at(episode, time_ns) for time_ns in times]
    played = [i for i, command in enumerate(commands) if command is not None]
    first = times[0] if times else 0
    return EpisodeResult(
        spec=episode.spec,
        status=episode.status,
        step_ns=step_ns,
        proprio=_rows([episode.proprio[times[i]] for i in played], embodiment),
        commands=_rows([commands[i] for i in played], embodiment),
        chunks=[
            (round((c.observation_time_ns - first) / step_ns), c.actions) for c in episode.chunks
        ],
        inference_ms=episode.inference_ms,
        wall_s=wall_s,
        loop={k: int(v) if v.isdigit() else v for k, v in episode.control.items()},
        error=episode.error,
        frames=episode.frames,
        frame_steps=2,
    )


def _rows(vectors: list[NDArray[np.float64]], embodiment: Embodiment) -> NDArray[np.float64]:
    return np.array(vectors, float).reshape(-1, embodiment.dof)


def _command_at(episode: RosEpisode, time_ns: int) -> NDArray[np.float64] | None:
    """Return the command in force at a tick; in realtime commands carry the control clock's
    stamps.
    """
    stamps = sorted(episode.commands)
    index = bisect.bisect_right(stamps, time_ns) - 1
    return episode.commands[stamps[index]] if index >= 0 else None
