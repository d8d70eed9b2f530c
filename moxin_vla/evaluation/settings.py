"""Every setting that determines a result, in words."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from moxin_vla.core.embodiment import Embodiment
from moxin_vla.core.protocols import PolicySpec
from moxin_vla.evaluation.config import EvaluationConfig
from moxin_vla.evaluation.provenance import provenance
from moxin_vla.evaluation.rollout import EpisodeResult


def settings(
    config: EvaluationConfig,
    embodiment: Embodiment,
    policy: PolicySpec | None,
    results: Sequence[EpisodeResult],
) -> list[tuple[str, str]]:
    """Return everything that determines the result, as (name, value).

    Args:
        config: What was asked.
        embodiment: The robot.
        policy: What the policy says of itself; None for the expert.
        results: For the time limits, which the simulator sets.
    """
    seeds, transport = config.seeds, f"over ROS 2, {config.mode}"
    rows = {
        "policy": shown_path(config.policy),
        "policy fingerprint": (policy.fingerprint if policy else "") or "none",
        **(_policy_rows(policy) if policy else {}),
        "embodiment": f"{embodiment.name}, file {short_hash(config)}",
        "hold": embodiment.hold.value,
        "families": ", ".join(config.families),
        "seeds per family": f"{seeds.start} to {seeds.stop - 1}",
        "time limit": _time_limits(results),
        "control rate": f"{embodiment.control_rate_hz:g} Hz",
        "execution horizon": f"{config.execution_horizon} steps",
        "joiner": config.joiner,
        "injected delay": f"{config.delay} steps" if config.delay.isdigit() else config.delay,
        "run": "in one process" if config.over == "inprocess" else transport,
        "workers": config.workers,
        "device": config.device,
        **provenance(),
    }
    return [(name, str(value)) for name, value in rows.items()]


def shown_path(policy: str) -> str:
    """Leave out where on this machine a checkpoint lies, if it lies below the working folder."""
    path = Path(policy)
    below = path.is_absolute() and path.is_relative_to(Path.cwd())
    return path.relative_to(Path.cwd()).as_posix() if below else policy


def _policy_rows(policy: PolicySpec) -> dict[str, str]:
    return {
        "policy name": policy.name,
        "prediction horizon": f"{policy.horizon} steps",
        "cameras": ", ".join(policy.cameras) or "none",
    }


def _time_limits(results: Sequence[EpisodeResult]) -> str:
    limits = {r.spec.family: r.status.horizon for r in results if r.status.horizon}
    return ", ".join(f"{family} {steps} steps" for family, steps in limits.items()) or "unknown"


def short_hash(config: EvaluationConfig) -> str:
    """Return a hash of the embodiment file."""
    return hashlib.sha256(config.embodiment.read_bytes()).hexdigest()[:12]
