"""An operator takes over from a running policy and gives back, over real DDS."""

from collections.abc import Callable

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus

from moxin_sim import Expert, Tabletop, sample_episode
from moxin_vla.core.embodiment import Embodiment
from moxin_vla.ros.diagnostics import status_values
from moxin_vla.runtime.loop import ControlLoop
from moxin_vla.safety.limits import JointLimits

AUTOPILOT = {"teleop": "autopilot"}


def drivers(statuses: list[DiagnosticStatus]) -> list[str]:
    """Return who drove, one after the other."""
    said: list[str] = []
    for status in statuses:
        driver = status_values(status)["driver"]
        if not said or said[-1] != driver:
            said.append(driver)
    return said


@pytest.mark.parametrize("family", ["touch", "pick"])
def test_the_autopilot_solves_an_episode_in_lockstep_as_the_same_loop_does_in_process(
    start_system: Callable, embodiment: Embodiment, family: str
) -> None:
    spec = sample_episode(family, 5)
    with start_system("scripted:hold", **AUTOPILOT) as running:
        episode = running.client.run(spec)
    assert episode.error == "" and episode.status.success
    assert episode.control["driver"] == "operator"
    assert episode.control["chunks waited for in vain"] == "0"

    world, loop = Tabletop(embodiment), ControlLoop(embodiment, JointLimits(embodiment))
    expert, proprio, commands = Expert(world, 2), [], []
    world.reset(spec)
    while not world.status().done:
        now_ns = len(proprio) * embodiment.step_ns
        loop.operate(expert.chunk()[1], now_ns)
        command = loop.tick(now_ns, world.proprio(), now_ns)
        assert command is not None
        proprio.append(world.proprio())
        commands.append(command.positions)
        world.step(command.positions)
    world.close()
    assert np.array_equal(np.array([episode.proprio[t] for t in sorted(episode.proprio)]), proprio)
    assert np.array_equal(
        np.array([episode.commands[t] for t in sorted(episode.commands)]), commands
    )
