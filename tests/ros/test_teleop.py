"""An operator takes over from a running policy and gives back, over real DDS."""

from collections.abc import Callable

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from sensor_msgs.msg import Joy
from trajectory_msgs.msg import JointTrajectory

from moxin_sim import Expert, Tabletop, sample_episode
from moxin_vla.core.embodiment import Embodiment
from moxin_vla.ros.diagnostics import status_values
from moxin_vla.ros.qos import COMMAND, JOINTS_PUBLISHER, LATCHED
from moxin_vla.runtime.loop import ControlLoop
from moxin_vla.safety.limits import JointLimits

AUTOPILOT = {"teleop": "autopilot"}


def drivers(statuses: list[DiagnosticStatus]) -> list[str]:
    """Return who drove, one after the other; nobody in between does not count."""
    said = [driver for s in statuses if (driver := status_values(s)["driver"])]
    return [driver for driver, before in zip(said, ["", *said], strict=False) if driver != before]


class Pad:
    """A gamepad on a topic, whose dead-man is held while its stick is pushed."""

    def __init__(self, node) -> None:
        self._out = node.create_publisher(Joy, "/joy", JOINTS_PUBLISHER)
        self.stick, self.plugged = 0.0, True
        node.create_timer(0.05, self._publish)

    def _publish(self) -> None:
        axes, buttons = [self.stick, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0], [0] * 11
        buttons[4] = int(self.stick != 0.0)
        if self.plugged:
            self._out.publish(Joy(axes=axes, buttons=buttons))


def test_a_pad_takes_over_from_the_policy_and_unplugged_it_stops_and_gives_back(
    start_system: Callable, listener
) -> None:
    with start_system(
        "scripted:sweep",
        mode="realtime",
        teleop="joy",
        teleop_parameters={"mode": "joint", "give_back_after_s": 2.0},
        simulation_parameters={"horizon_steps": 100_000},
    ) as running:
        statuses = listener.hear(DiagnosticStatus, "control_node/status", LATCHED)
        sent = listener.hear(JointTrajectory, "control_node/command", COMMAND)
        pad = Pad(listener.node)
        running.client.begin(sample_episode("touch", 3))

        def driver() -> str:
            return status_values(statuses[-1])["driver"] if statuses else ""

        def commanded(back: int = 1) -> np.ndarray:
            return np.array(sent[-back].points[0].positions)

        listener.until(lambda: driver() == "policy", "the policy drives")
        pad.stick = 1.0
        listener.until(lambda: driver() == "operator", "the operator drives")
        begun = commanded()
        listener.until(lambda: commanded()[0] > begun[0] + 0.2, "the arm follows the stick")
        assert np.allclose(commanded()[1:], begun[1:], atol=0.1)  # no joint but that one
        pad.plugged = False
        listener.until(lambda: np.array_equal(commanded(), commanded(5)), "the arm stands")
        assert driver() == "operator"
        listener.until(lambda: driver() == "policy", "the policy drives again")
    assert drivers(statuses)[:3] == ["policy", "operator", "policy"]


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
