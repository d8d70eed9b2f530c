"""Task families: language templates, horizon, what counts as success and as failure."""

from moxin_sim.tasks.base import TaskFamily
from moxin_sim.tasks.episodes import (
    FAMILIES,
    family_of,
    instructions,
    named_colour,
    other_object_episode,
    sample_episode,
)

__all__ = [
    "FAMILIES",
    "TaskFamily",
    "family_of",
    "instructions",
    "named_colour",
    "other_object_episode",
    "sample_episode",
]
