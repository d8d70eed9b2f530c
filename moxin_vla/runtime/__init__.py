"""Runtime: put action chunks on the clock and produce one command per control tick."""

from moxin_vla.runtime.delay import DelayTrace, parse_delay
from moxin_vla.runtime.joiners import JOINERS, make_joiner
from moxin_vla.runtime.loop import ControlLoop
from moxin_vla.runtime.planner import Planner
from moxin_vla.runtime.schedule import ReplanSchedule
from moxin_vla.runtime.status import LoopStatus
from moxin_vla.runtime.timeline import Timeline

__all__ = [
    "JOINERS",
    "ControlLoop",
    "DelayTrace",
    "LoopStatus",
    "Planner",
    "ReplanSchedule",
    "Timeline",
    "make_joiner",
    "parse_delay",
]
