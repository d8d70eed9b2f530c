"""What must not throw the arm, in real time: a dead policy, a stop, motion not enabled."""

import os
import signal
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from std_srvs.srv import SetBool, Trigger

from moxin_sim import sample_episode
from moxin_vla.core.embodiment import Embodiment
from moxin_vla.ros.diagnostics import ERROR
from moxin_vla.ros.qos import LATCHED

PLACE = sample_episode("place", 3)
RUN_OUT = "the last action chunk has run out and no new one has arrived"


@pytest.fixture(scope="module")
def sweep(start_system: Callable) -> Iterator[SimpleNamespace]:
    """In real time, at half speed: these tests act while the episode runs."""
    with start_system(
        "scripted:sweep", mode="realtime", simulation_parameters={"speed": 0.5}
    ) as running:
        yield running


def wait(running: SimpleNamespace, condition: Callable[[], bool], what: str) -> None:
    assert running.client.spin_until(condition, 60.0), f"never happened: {what}"


def mode(running: SimpleNamespace) -> str:
    return running.client.recorder.control.get("mode", "")


def reason(running: SimpleNamespace) -> str:
    return running.client.recorder.control.get("reason", "")


def standing(running: SimpleNamespace) -> bool:
    return running.client.recorder.control.get("standing") == "True"


def at_rest(episode) -> bool:
    """Whether the last five commands are one; the status may overtake commands on their way."""
    last = [episode.commands[t] for t in sorted(episode.commands)[-5:]]
    return len(last) == 5 and all(np.array_equal(positions, last[0]) for positions in last)


def largest_step(episode) -> np.ndarray:
    """Largest change of any joint between consecutive commands, in [rad]."""
    commands = [episode.commands[t] for t in sorted(episode.commands)]
    return np.abs(np.diff(commands, axis=0)).max(axis=0)


def test_a_killed_policy_makes_the_arm_hold_and_a_restarted_one_goes_on(
    sweep: SimpleNamespace, embodiment: Embodiment
) -> None:
    episode = sweep.client.begin(PLACE)
    wait(sweep, lambda: episode.status.step > 20, "the episode is under way")
    assert mode(sweep) == "running"

    os.kill(sweep.system.pid("policy_node"), signal.SIGKILL)
    wait(sweep, lambda: mode(sweep) == "holding", "the arm holds")
    assert reason(sweep) == RUN_OUT
    wait(sweep, lambda: standing(sweep) and at_rest(episode), "the arm stands")
    held_from, step = max(episode.commands), episode.status.step
    wait(sweep, lambda: episode.status.step >= step + 10, "time goes on")
    held = [p for t, p in episode.commands.items() if t > held_from]
    assert len(held) >= 5
    assert all(np.array_equal(positions, held[0]) for positions in held)
    assert mode(sweep) == "holding"

    sweep.system.restart("policy_node")
    sweep.client.tell(PLACE.instruction)
    wait(sweep, lambda: mode(sweep) == "running", "the restarted policy takes over")
    assert not episode.status.done
    step = episode.status.step
    wait(sweep, lambda: episode.status.step >= step + 10, "the episode goes on")
    assert np.all(
        largest_step(episode) <= embodiment.velocity_limit * embodiment.step_ns / 1e9 + 1e-12
    )
    assert ("holding", RUN_OUT) in episode.history


def test_a_stop_latches_until_reset(sweep: SimpleNamespace, listener) -> None:
    episode = sweep.client.begin(sample_episode("place", 4))
    wait(sweep, lambda: mode(sweep) == "running", "the arm moves")
    stopped = listener.hear(DiagnosticStatus, "control_node/status", LATCHED)
    listener.call(Trigger, "control_node/stop", Trigger.Request())
    wait(sweep, lambda: mode(sweep) == "stopped", "the stop is reported")
    listener.until(lambda: stopped and stopped[-1].level == ERROR, "as an error")
    wait(sweep, lambda: standing(sweep) and at_rest(episode), "the arm stands")
    at, step = max(episode.commands), episode.status.step
    wait(sweep, lambda: episode.status.step >= step + 20, "chunks keep coming")
    held = [p for t, p in episode.commands.items() if t > at]
    assert all(np.array_equal(positions, held[0]) for positions in held)
    assert mode(sweep) == "stopped"

    listener.call(Trigger, "control_node/reset", Trigger.Request())
    wait(sweep, lambda: mode(sweep) == "running", "the reset releases it")


def test_disabled_motion_holds_until_enabled(sweep: SimpleNamespace, listener) -> None:
    sweep.client.begin(sample_episode("place", 5))
    wait(sweep, lambda: mode(sweep) == "running", "the arm moves")
    listener.call(SetBool, "control_node/enable", SetBool.Request(data=False))
    wait(sweep, lambda: reason(sweep) == "motion is not enabled", "the arm holds")
    listener.call(SetBool, "control_node/enable", SetBool.Request(data=True))
    wait(sweep, lambda: mode(sweep) == "running", "the arm moves again")
