"""How the control loop stands: a snapshot for diagnostics, reports and recordings."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from moxin_vla.core.types import CommitReason, ControlMode, HoldReason


@dataclass(frozen=True, slots=True)
class LoopStatus:
    """The control loop at its last tick; counters run since the last reset.

    Attributes:
        mode: What the loop is doing.
        reason: Why it stands still, if it does.
        chunk_age_s: Age of the observation behind the committed chunk, in [s]; None without one.
        steps_left: Steps of the committed chunk that can still be played.
        ticks: Control ticks, those without a command included.
        commits: Chunks accepted.
        trimmed_steps: Steps of accepted chunks that had passed on arrival.
        rejected: Chunks refused, by reason; reasons that never occurred are absent.
        starved_ticks: Ticks at which the arm held because the chunk had run out.
        stale_ticks: Ticks at which proprio was missing, stale or unusable.
        position_limited: Commands that the position limits changed.
        velocity_limited: Commands that the velocity limits changed.
        not_finite: Chunks and targets refused because of NaN or infinity.
        clock_resets: Times the control clock went back.
    """

    mode: ControlMode = ControlMode.WAITING
    reason: HoldReason = HoldReason.NO_CHUNK
    chunk_age_s: float | None = None
    steps_left: int = 0
    ticks: int = 0
    commits: int = 0
    trimmed_steps: int = 0
    rejected: Mapping[CommitReason, int] = field(default_factory=lambda: MappingProxyType({}))
    starved_ticks: int = 0
    stale_ticks: int = 0
    position_limited: int = 0
    velocity_limited: int = 0
    not_finite: int = 0
    clock_resets: int = 0


@dataclass(slots=True)
class LoopCounters:
    """The running counts behind `LoopStatus`; written by the control loop only."""

    ticks: int = 0
    commits: int = 0
    trimmed_steps: int = 0
    rejected: Counter[CommitReason] = field(default_factory=Counter)
    starved_ticks: int = 0
    stale_ticks: int = 0
    position_limited: int = 0
    velocity_limited: int = 0
    not_finite: int = 0
    clock_resets: int = 0

    def snapshot(self) -> dict[str, Any]:
        """Return the counts as keyword arguments of `LoopStatus`, cut off from later counting."""
        counts = {name: getattr(self, name) for name in self.__slots__}
        return counts | {"rejected": MappingProxyType(dict(self.rejected))}
