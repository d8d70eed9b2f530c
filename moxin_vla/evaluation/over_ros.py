"""Episodes over ROS 2: the nodes in processes of their own, the same specs, the same judge."""

import bisect
import os
import time
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from moxin_vla.core.embodiment import Embodiment, load_embodiment
from moxin_vla.core.protocols import EpisodeSpec
from moxin_vla.evaluation.rollout import EpisodeResult
from moxin_vla.evaluation.runner import EvaluationConfig
from moxin_vla.ros.bringup import Bringup, BringupError
from moxin_vla.ros.episode_client import EpisodeClient, RosEpisode
from moxin_vla.system import SystemConfig

_PRIVATE_DOMAINS = (60, 100)  # clear of the default, and low enough for every platform's ports


def private_domain() -> int:
    """Return a ROS domain id of this process's own."""
    first, last = _PRIVATE_DOMAINS
    return first + os.getpid() % (last - first)


def run_over_ros(
    config: EvaluationConfig, episodes: Sequence[tuple[EpisodeSpec, bool]]
) -> Iterator[EpisodeResult]:
    """Bring the system up, play the episodes, yield each result as it ends.

    Raises:
        BringupError: A node could not be started, or ended while episodes ran.
    """
    embodiment = load_embodiment(config.embodiment)
    system_config = SystemConfig(
        embodiment=config.embodiment,
        policy=config.policy,
        mode=config.mode,
        execution_horizon=config.execution_horizon,
        device=config.device,
        domain_id=private_domain(),
    )
    with Bringup(system_config) as system:

        def check() -> None:
            if name := system.ended():
                raise BringupError(
                    f"{name} ended while an episode ran.\n{system.output(name)[-1500:]}"
                )

        with EpisodeClient(embodiment, check) as client:
            for spec, video in episodes:
                started = time.perf_counter()
                episode = client.run(spec, video)
                yield to_result(episode, embodiment, time.perf_counter() - started)


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
        proprio=np.array([episode.proprio[times[i]] for i in played]),
        commands=np.array([commands[i] for i in played]),
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


def _command_at(episode: RosEpisode, time_ns: int) -> NDArray[np.float64] | None:
    """Return the command in force at a tick; in realtime commands carry the control clock's
    stamps.
    """
    stamps = sorted(episode.commands)
    index = bisect.bisect_right(stamps, time_ns) - 1
    return episode.commands[stamps[index]] if index >= 0 else None
