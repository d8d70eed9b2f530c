"""One cell of a grid: a joiner under a delay, measured once and kept in a file."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from moxin_vla.evaluation.config import EvaluationError
from moxin_vla.evaluation.motion import motion
from moxin_vla.evaluation.rollout import EpisodeResult
from moxin_vla.evaluation.statistics import wilson_interval

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class EpisodeRecord:
    """What a grid keeps of an episode.

    Attributes:
        family: Task family.
        seed: Seed of the scene.
        success: Whether it succeeded.
        failure: Why not.
        time_s: Simulated time it took, in [s].
        jumps_rad: Jumps where plans met, in [rad]; see `Motion`.
        jerk_rms: In [rad/s^3]; None for an episode too short to have one.
        limited_ticks: Ticks at which a limit changed the command, counted once for each limit.
        held_ticks: Ticks at which the arm held because the plan had run out.
        plans: Plans that were asked for.
        inference_ms: Median wall time of a plan, in [ms]; None without plans.
    """

    family: str
    seed: int
    success: bool
    failure: str
    time_s: float
    jumps_rad: tuple[float, ...]
    jerk_rms: float | None
    limited_ticks: int
    held_ticks: int
    plans: int
    inference_ms: float | None


@dataclass(frozen=True, slots=True)
class Cell:
    """Every episode of one joiner under one delay with one policy.

    Attributes:
        joiner: Name of the joiner.
        delay: Injected delay, as the user wrote it.
        policy: Name of the policy.
        fingerprint: Of its weights.
        conditions: What cells of one grid must share, as (name, value).
        measured_with: Versions and machine.
        episodes: In the order of families and seeds.
    """

    joiner: str
    delay: str
    policy: str
    fingerprint: str
    conditions: dict[str, str]
    measured_with: dict[str, str]
    episodes: tuple[EpisodeRecord, ...]

    @property
    def file_name(self) -> str:
        """Where it is kept."""
        delay = "".join(c if c.isalnum() else "-" for c in self.delay)
        return f"{self.joiner}_d{delay}_{self.fingerprint[:8] or 'none'}.json"

    @property
    def wins(self) -> list[bool]:
        """Success of each episode."""
        return [episode.success for episode in self.episodes]

    @property
    def rate(self) -> float:
        """Share of successes."""
        return sum(self.wins) / len(self.episodes)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval of the rate."""
        return wilson_interval(sum(self.wins), len(self.episodes))

    @property
    def time_s(self) -> float:
        """Mean simulated time of the successes, in [s]; NaN without any."""
        times = [episode.time_s for episode in self.episodes if episode.success]
        return float(np.mean(times)) if times else float("nan")

    @property
    def jump_rad(self) -> tuple[float, float]:
        """Mean and 95th percentile of the jumps where plans met, in [rad]; NaN without any."""
        jumps = [jump for episode in self.episodes for jump in episode.jumps_rad]
        if not jumps:
            return float("nan"), float("nan")
        return float(np.mean(jumps)), float(np.percentile(jumps, 95))

    @property
    def jerk_rms(self) -> float:
        """Mean over episodes of the commands' jerk, in [rad/s^3]; NaN without any."""
        jerks = [e.jerk_rms for e in self.episodes if e.jerk_rms is not None]
        return float(np.mean(jerks)) if jerks else float("nan")

    @property
    def limited_ticks(self) -> float:
        """Ticks per episode at which a limit changed the command, once for each limit."""
        return float(np.mean([episode.limited_ticks for episode in self.episodes]))

    @property
    def held_ticks(self) -> float:
        """Ticks per episode at which the arm held because the plan had run out."""
        return float(np.mean([episode.held_ticks for episode in self.episodes]))


def record(result: EpisodeResult, gripper_index: int) -> EpisodeRecord:
    """Reduce an episode to what a grid keeps of it."""
    moved, plans = motion(result, gripper_index), result.inference_ms
    loop = result.loop
    return EpisodeRecord(
        family=result.spec.family,
        seed=result.spec.seed,
        success=result.success,
        failure=result.failure,
        time_s=result.sim_s,
        jumps_rad=moved.jumps_rad,
        jerk_rms=moved.jerk_rms if np.isfinite(moved.jerk_rms) else None,
        limited_ticks=sum(int(n) for name, n in loop.items() if name.endswith("_limited")),
        held_ticks=int(loop.get("starved_ticks", 0)),
        plans=len(result.chunks),
        inference_ms=float(np.median(plans)) if plans else None,
    )


def save_cell(folder: Path, cell: Cell) -> None:
    """Write a cell into a grid's folder, whole or not at all."""
    path = folder / cell.file_name
    text = json.dumps({"schema": SCHEMA} | asdict(cell), indent=1, allow_nan=False)
    part = path.with_suffix(".part")
    part.write_text(text + "\n", encoding="utf-8")
    part.replace(path)


def load_cells(folder: Path) -> list[Cell]:
    """Return the cells measured so far; none if the folder does not exist.

    Raises:
        EvaluationError: A file is not a cell.
    """
    return [_load(path) for path in sorted(folder.glob("*.json"))]


def check_conditions(cells: Sequence[Cell], conditions: dict[str, str]) -> None:
    """Refuse to add to a grid that was measured under other conditions: nothing would be paired.

    Raises:
        EvaluationError: They differ; says where.
    """
    for cell in cells:
        for name, wanted in conditions.items():
            if (found := cell.conditions.get(name)) != wanted:
                raise EvaluationError(
                    f"The folder holds {cell.joiner} at delay {cell.delay}, measured with {name} "
                    f"{found}. Expected: {wanted}. Repeat it as it was, or choose another --out."
                )


def _load(path: Path) -> Cell:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("schema") != SCHEMA:
            raise ValueError
        episodes = (
            EpisodeRecord(**episode | {"jumps_rad": tuple(episode["jumps_rad"])})
            for episode in content.pop("episodes")
        )
        return Cell(**content, episodes=tuple(episodes))
    except (ValueError, KeyError, TypeError):
        raise EvaluationError(
            f"'{path}' is no cell of a grid. Remove it, or choose another --out."
        ) from None
