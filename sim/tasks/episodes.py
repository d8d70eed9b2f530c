"""From a family and a seed to an episode, and from an instruction back to what it names."""

import numpy as np

from moxin_sim.scenes.layout import present_colours
from moxin_sim.scenes.tabletop import COLOURS
from moxin_sim.tasks.base import TaskFamily
from moxin_sim.tasks.pick import Pick
from moxin_sim.tasks.place import Place
from moxin_sim.tasks.touch import Touch
from moxin_vla.core.errors import SimulationError, listed
from moxin_vla.core.protocols import EpisodeSpec

_FAMILIES: dict[str, TaskFamily] = {task.name: task for task in (Touch(), Pick(), Place())}
FAMILIES = tuple(_FAMILIES)


def family_of(name: str) -> TaskFamily:
    """Return the family called `name`; raise SimulationError with the known ones."""
    if name not in _FAMILIES:
        raise SimulationError(f"Unknown task family '{name}'. Choose from: {listed(FAMILIES)}")
    return _FAMILIES[name]


def instructions() -> tuple[str, ...]:
    """Return every instruction that the families' templates make."""
    return tuple(
        template.format(colour=colour)
        for task in _FAMILIES.values()
        for template in task.templates
        for colour in COLOURS
    )


def sample_episode(family: str, seed: int) -> EpisodeSpec:
    """Return the episode of `family` with `seed`: the seed decides the scene, the named cube and
    the wording.
    """
    task = family_of(family)
    rng = np.random.default_rng([seed, FAMILIES.index(family), 1])
    colour = rng.choice(present_colours(family, seed))
    template = task.templates[rng.integers(len(task.templates))]
    return EpisodeSpec(seed, family, template.format(colour=colour))


def other_object_episode(episode: EpisodeSpec) -> EpisodeSpec:
    """Return the same scene with the same wording, naming another cube that stands in it."""
    colour = named_colour(episode)
    others = [c for c in present_colours(episode.family, episode.seed) if c != colour]
    other = others[episode.seed % len(others)]
    return EpisodeSpec(episode.seed, episode.family, episode.instruction.replace(colour, other))


def named_colour(episode: EpisodeSpec) -> str:
    """Return the colour of the cube that the instruction names.

    Raises:
        SimulationError: The wording is not one of the family's, or the cube does not stand in the
            scene.
    """
    task = family_of(episode.family)
    text = " ".join(episode.instruction.lower().split())
    for template in task.templates:
        for colour in COLOURS:
            if text == template.format(colour=colour):
                present = present_colours(episode.family, episode.seed)
                if colour not in present:
                    raise SimulationError(
                        f"There is no {colour} cube in this scene "
                        f"(family {episode.family}, seed {episode.seed}). "
                        f"Cubes: {listed(present)}"
                    )
                return colour
    raise SimulationError(
        f"'{episode.instruction}' is no instruction of the family '{episode.family}'. "
        f"Known: {listed(task.templates)} with colour one of {listed(COLOURS)}"
    )
