"""Runtime: put action chunks on the clock and produce one command per control tick."""

from moxin_vla.runtime.loop import ControlLoop
from moxin_vla.runtime.schedule import ReplanSchedule
from moxin_vla.runtime.status import LoopStatus
from moxin_vla.runtime.timeline import Timeline

__all__ = ["ControlLoop", "LoopStatus", "ReplanSchedule", "Timeline"]
