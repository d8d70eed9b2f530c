"""Which holds are faults, and when a fault latches."""

from moxin_vla.core.types import HoldReason

FAULTS = frozenset(
    {
        HoldReason.NOT_FINITE,
        HoldReason.OUT_OF_CONTRACT,
        HoldReason.PROPRIO_STALE,
        HoldReason.CLOCK_WENT_BACK,
        HoldReason.SECOND_COMMANDER,
    }
)


class FaultLatch:
    """Latches a fault that lasts; only a reset releases it.

    Counted in ticks, which come from a steady timer: a control clock that stands still or jumps
    can't hurry or delay it.

    Args:
        ticks: Consecutive ticks of the same fault after which it latches.
    """

    def __init__(self, ticks: int) -> None:
        self._ticks = max(1, ticks)
        self.reset()

    def reset(self) -> None:
        """Release."""
        self.latched = HoldReason.NONE
        self._reason, self._count = HoldReason.NONE, 0

    def latch(self, reason: HoldReason) -> None:
        """Latch at once. A stop overrides a fault; nothing else overrides what is latched."""
        if self.latched is HoldReason.NONE or reason is HoldReason.STOP_REQUESTED:
            self.latched = reason

    def note(self, reason: HoldReason) -> None:
        """Take the reason of one tick."""
        self._count = self._count + 1 if reason is self._reason else 1
        self._reason = reason
        if reason in FAULTS and self._count >= self._ticks:
            self.latch(reason)
