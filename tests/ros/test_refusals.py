"""What the running nodes refuse, and say so."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from moxin_sim import sample_episode
from moxin_vla.core.embodiment import Embodiment
from moxin_vla.core.errors import MoxinVlaError
from moxin_vla.core.protocols import EpisodeSpec
from moxin_vla.core.types import Command, ControlMode
from moxin_vla.ros.conversions import command_message
from moxin_vla.ros.diagnostics import ERROR, OK, status_values
from moxin_vla.ros.qos import COMMAND, RECORDING


@pytest.fixture(scope="module")
def lockstep(start_system: Callable) -> Iterator[SimpleNamespace]:
    with start_system("scripted:sweep", mode="lockstep") as running:
        yield running


def test_an_empty_instruction_is_refused_and_the_former_one_stays(
    lockstep: SimpleNamespace, listener
) -> None:
    spec = sample_episode("touch", 6)
    lockstep.client.run(spec)
    statuses = listener.hear(DiagnosticStatus, "policy_node/status", RECORDING)
    diagnostics = listener.hear(DiagnosticArray, "/diagnostics", RECORDING)
    publisher = listener.node.create_publisher(String, "policy_node/instruction", COMMAND)
    listener.until(lambda: publisher.get_subscription_count() > 0, "policy_node listens")
    publisher.publish(String(data="   "))
    status = listener.until(
        lambda: next((s for s in statuses if s.level == ERROR), None), "the refusal"
    )
    assert status.message.startswith("instruction refused: The instruction is empty. Got: '   '.")
    assert f"The former one stays: '{spec.instruction}'." in status.message
    values = status_values(status)
    assert values["instruction"] == spec.instruction
    assert int(values["instructions refused"]) >= 1
    listener.until(
        lambda: any(s.message == status.message for array in diagnostics for s in array.status),
        "the refusal in /diagnostics",
    )


def test_an_unknown_family_is_refused_with_the_known_ones(lockstep: SimpleNamespace) -> None:
    with pytest.raises(
        Exception, match=r"Unknown task family 'juggle'\. Choose from: touch, pick"
    ):
        lockstep.client.run(EpisodeSpec(1, "juggle", "juggle the red cube"))


def test_an_instruction_the_scene_cannot_judge_is_refused(lockstep: SimpleNamespace) -> None:
    with pytest.raises(MoxinVlaError, match="'sing a song' is no instruction of the family"):
        lockstep.client.run(EpisodeSpec(1, "pick", "sing a song"))


def test_a_command_for_another_tick_is_ignored_and_its_sender_is_found(
    lockstep: SimpleNamespace, listener, embodiment: Embodiment
) -> None:
    spec = sample_episode("touch", 7)
    intruder = listener.node.create_publisher(JointTrajectory, "control_node/command", COMMAND)
    listener.until(lambda: intruder.get_subscription_count() >= 2, "the simulator listens")
    wanted = Command(10**15, embodiment.position_upper, ControlMode.RUNNING)
    episode = lockstep.client.begin(spec)
    intruded = -1
    while not episode.status.done:
        if intruded != episode.status.step:
            intruder.publish(command_message(wanted, embodiment.joint_names))
            intruded = episode.status.step
        lockstep.client.spin_once()
    assert intruded > 10
    lockstep.client.spin_until(lambda: len(episode.proprio) >= episode.status.step, 1.0)
    assert lockstep.client.recorder.control["reason"] == "somebody else commands the robot"
    start, end = (episode.proprio[t] for t in (min(episode.proprio), max(episode.proprio)))
    way = np.abs(embodiment.position_upper - start)
    far = way > 0.5  # the rest is where the intruder wants it from the start
    assert np.all(np.abs(end - start)[far] < 0.5 * way[far]), (
        "no joint went where the intruder wanted it"
    )
    listener.node.destroy_publisher(intruder)


def test_diagnostics_of_every_node_say_rates_and_inference(
    lockstep: SimpleNamespace, listener
) -> None:
    arrays = listener.hear(DiagnosticArray, "/diagnostics", RECORDING)

    def newest() -> dict[str, DiagnosticStatus]:
        return {s.name: s for array in arrays for s in array.status}

    while not {"sim_node", "control_node", "policy_node"} <= newest().keys() or (
        "joint states Hz" not in status_values(newest()["policy_node"])
    ):
        lockstep.client.run(sample_episode("touch", 9))
        listener.spin_once()
    policy = status_values(newest()["policy_node"])
    assert float(policy["front Hz"]) >= 0
    assert float(policy["inference p50 ms"]) >= 0
    assert newest()["sim_node"].level == OK
    assert int(status_values(newest()["sim_node"])["commands ignored"]) >= 0
