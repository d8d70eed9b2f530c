"""How the control loop stands: a snapshot for diagnostics, reports and recordings."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

from moxin_vla.core.types import CommitReason, ControlMode, HoldReason
from moxin_vla.runtime.handover import Driver


@dataclass(frozen=True, slots=True)
class LoopStatus:
    """The control loop at its last tick; counters run since the last reset.

    Attributes:
        mode: What the loop is doing.
        reason: Why it stands still, if it does.
        chunk_age_s: Age of the observation behind the committed chunk, in [s]; None without one.
        steps_left: Steps of the committed chunk that can still be played.
        driver: Who moves the arm.
        standing: Whether the commands stand still.
        ticks: Control ticks, those without a command included.
        commits: Chunks accepted.
        trimmed_steps: Steps of accepted chunks that had passed on arrival.
        rejected: Chunks refused, by reason; reasons that never occurred are absent.
        starved_ticks: Ticks at which the arm held because the chunk had run out.
        stale_ticks: Ticks at which proprio was missing, stale or unusable.
        position_limited: Commands that the position limits changed.
        velocity_limited: Commands that the velocity limits changed; likewise the next three.
        braking_limited: Commands changed because there would have been no way to stop.
        workspace_limited: Commands that braked because the end effector would have left its box.
        slowed_ticks: Ticks at which a path was followed more slowly than planned.
        slowed_chunks: Chunks that could only be followed more slowly.
        operator_refused: Targets of the operator that were not usable.
        hand_overs: Times that control changed hands.
        not_finite: Chunks and targets refused because of NaN or infinity.
        clock_resets: Times the control clock went back.
    """

    mode: ControlMode = ControlMode.WAITING
    reason: HoldReason = HoldReason.NO_CHUNK
    chunk_age_s: float | None = None
    steps_left: int = 0
    driver: Driver = Driver.POLICY
    standing: bool = True
    ticks: int = 0
    commits: int = 0
    trimmed_steps: int = 0
    rejected: Mapping[CommitReason, int] = field(default_factory=lambda: MappingProxyType({}))
    starved_ticks: int = 0
    stale_ticks: int = 0
    position_limited: int = 0
    velocity_limited: int = 0
    acceleration_limited: int = 0
    jerk_limited: int = 0
    braking_limited: int = 0
    workspace_limited: int = 0
    slowed_ticks: int = 0
    slowed_chunks: int = 0
    operator_refused: int = 0
    hand_overs: int = 0
    not_finite: int = 0
    clock_resets: int = 0

    def values(self) -> dict[str, object]:
        """Return everything as plain values by name; refused chunks are counted per reason."""
        values: dict[str, object] = {item.name: getattr(self, item.name) for item in fields(self)}
        values["mode"], values["reason"] = self.mode.value, self.reason.value
        values["driver"] = self.driver.value
        values["chunk_age_s"] = "" if self.chunk_age_s is None else f"{self.chunk_age_s:.3f}"
        del values["rejected"]
        refused = {f"rejected {reason.name.lower()}": n for reason, n in self.rejected.items()}
        return values | refused


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
    acceleration_limited: int = 0
    jerk_limited: int = 0
    braking_limited: int = 0
    workspace_limited: int = 0
    slowed_ticks: int = 0
    slowed_chunks: int = 0
    operator_refused: int = 0
    hand_overs: int = 0
    not_finite: int = 0
    clock_resets: int = 0

    def count_limits(self, names: Iterable[str]) -> None:
        """Count one command by the names of what changed it."""
        for name in names:
            counter = "slowed_ticks" if name == "slowed" else f"{name}_limited"
            setattr(self, counter, getattr(self, counter) + 1)

    def snapshot(self) -> dict[str, Any]:
        """Return the counts as keyword arguments of `LoopStatus`, cut off from later counting."""
        counts = {name: getattr(self, name) for name in self.__slots__}
        return counts | {"rejected": MappingProxyType(dict(self.rejected))}


COUNTERS = tuple(name for name in LoopCounters.__slots__ if name != "rejected")
