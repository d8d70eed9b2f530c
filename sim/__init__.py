"""moxin_sim: the SO-101 at a table in MuJoCo, with language tasks, scripted experts and Gymnasium
environments.
"""

import os
import sys

if (
    sys.platform == "linux"
):  # MuJoCo picks its backend when it is imported; without this it looks for a display
    os.environ.setdefault("MUJOCO_GL", "egl")

from moxin_sim.experts import Expert, ExpertPolicy
from moxin_sim.tasks import FAMILIES, instructions, other_object_episode, sample_episode
from moxin_sim.world import Tabletop

__all__ = [
    "FAMILIES",
    "Expert",
    "ExpertPolicy",
    "Tabletop",
    "instructions",
    "other_object_episode",
    "sample_episode",
]
