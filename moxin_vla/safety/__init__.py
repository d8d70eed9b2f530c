"""Safety: the last word before the robot."""

from moxin_vla.safety.limits import JointLimits
from moxin_vla.safety.watchdog import StalenessWatchdog

__all__ = ["JointLimits", "StalenessWatchdog"]
