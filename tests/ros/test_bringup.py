"""Bringup: every node active, or the failing node's own words; nothing left running."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from moxin_sim import sample_episode
from moxin_vla.core.embodiment import Embodiment
from moxin_vla.ros.bringup import Bringup, BringupError
from moxin_vla.ros.dds import dds_environment
from moxin_vla.ros.episode_client import EpisodeClient
from moxin_vla.system import SystemConfig

PATIENCE_S = 60.0


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def checkpoint(embodiment: Embodiment, tmp_path: Path) -> Path:
    pytest.importorskip("torch")
    from moxin_vla.policy.moxin.presets import write_random_checkpoint

    write_random_checkpoint(tmp_path / "checkpoint", embodiment, seed=0)
    return tmp_path / "checkpoint"


def test_a_checkpoint_that_does_not_fit_is_refused_in_the_nodes_own_words(
    start_system: Callable, checkpoint: Path, embodiment_path: Path, tmp_path: Path
) -> None:
    other = tmp_path / "renamed.yaml"
    other.write_text(embodiment_path.read_text().replace("elbow_flex", "elbow_bend"))
    with (
        pytest.raises(BringupError) as refusal,
        start_system(str(checkpoint), "realtime", embodiment=other, simulation=False),
    ):
        pass
    said = str(refusal.value)
    assert said.startswith("policy_node: Policy ")
    assert "joints differ" in said
    assert "shoulder_lift, elbow_flex, wrist_flex" in said
    assert "shoulder_lift, elbow_bend, wrist_flex" in said


def test_a_robot_that_the_simulator_is_not_is_refused(
    start_system: Callable, embodiment_path: Path, tmp_path: Path
) -> None:
    other = tmp_path / "renamed.yaml"
    other.write_text(embodiment_path.read_text().replace("elbow_flex", "elbow_bend"))
    with (
        pytest.raises(BringupError, match="sim_node: The simulator's robot does not fit"),
        start_system("scripted:hold", embodiment=other),
    ):
        pass


def test_a_checkpoint_with_a_missing_tensor_is_refused(
    start_system: Callable, checkpoint: Path
) -> None:
    from safetensors.numpy import load_file, save_file

    tensors = load_file(checkpoint / "model.safetensors")
    lost = sorted(tensors)[0]
    del tensors[lost]
    save_file(tensors, checkpoint / "model.safetensors")
    with (
        pytest.raises(BringupError) as refusal,
        start_system(str(checkpoint), "realtime", simulation=False),
    ):
        pass
    assert str(refusal.value).startswith("policy_node: ")
    assert lost in str(refusal.value)


def test_two_systems_in_one_domain_are_refused(start_system: Callable) -> None:
    with (
        start_system("scripted:hold"),
        pytest.raises(BringupError, match="already runs in this ROS domain"),
        start_system("scripted:hold"),
    ):
        pass


def test_nothing_runs_after_the_system_is_left(domain_id: int, embodiment_path: Path) -> None:
    config = SystemConfig(embodiment_path, "scripted:hold", domain_id=domain_id)
    with Bringup(config) as system:
        pids = [system.pid(name) for name in ("sim_node", "control_node", "policy_node")]
        assert all(alive(pid) for pid in pids)
    assert not any(alive(pid) for pid in pids)


def test_a_node_that_ends_is_named(domain_id: int, embodiment_path: Path) -> None:
    config = SystemConfig(embodiment_path, "scripted:hold", domain_id=domain_id)
    with Bringup(config) as system:
        assert system.ended() == ""
        os.kill(system.pid("control_node"), signal.SIGKILL)
        deadline = time.monotonic() + PATIENCE_S
        while not system.ended():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert system.ended() == "control_node"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_the_command_ends_its_nodes_when_it_is_told_to_end(domain_id: int, how: int) -> None:
    command = [sys.executable, "-m", "moxin_vla.cli.main", "bringup", "scripted:hold"]
    bringup = subprocess.Popen(
        command,
        env=dds_environment(domain_id) | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert bringup.stdout is not None
        lines = iter(bringup.stdout.readline, "")
        assert any("All nodes are active" in line for line in lines)
        children = Path(f"/proc/{bringup.pid}/task/{bringup.pid}/children").read_text().split()
        assert len(children) >= 3
        bringup.send_signal(how)
        bringup.wait(PATIENCE_S)
        assert not any(alive(int(child)) for child in children)
    finally:
        bringup.kill()
        bringup.wait()


def test_the_command_says_why_a_node_refused_and_shows_no_traceback(domain_id: int) -> None:
    command = [sys.executable, "-m", "moxin_vla.cli.main", "bringup", "scripted:dance"]
    ended = subprocess.run(
        command, env=dds_environment(domain_id), capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert ended.returncode == 2
    reason = "Unknown scripted policy 'dance'. Choose from: hold, sweep, nan"
    assert ended.stderr.strip() == f"moxin-vla: policy_node: {reason}"
    assert f"[policy_node] refused to configure: {reason}" in ended.stdout
    assert "Traceback" not in ended.stdout


def test_a_recorded_episode_survives_a_change_of_seed_and_family(
    domain_id: int, embodiment_path: Path, embodiment: Embodiment
) -> None:
    config = SystemConfig(embodiment_path, "scripted:hold", mode="lockstep", domain_id=domain_id)
    with Bringup(config), EpisodeClient(embodiment) as client:
        for family, seed in (("touch", 1), ("place", 2), ("touch", 3)):
            spec = sample_episode(family, seed)
            episode = client.run(spec)
            assert episode.status.step == len(episode.proprio) == len(episode.commands)
            steps = np.diff(sorted(episode.proprio))
            assert np.all(steps == embodiment.step_ns)


def test_a_policy_that_returns_nan_is_held_counted_and_reported(start_system: Callable) -> None:
    with start_system("scripted:nan") as running:
        episode = running.client.run(sample_episode("touch", 8))
    assert episode.status.step == episode.status.horizon
    assert not episode.error
    assert ("holding", "the policy returned NaN or infinity") in episode.history
    assert int(episode.control["not_finite"]) > 0
    assert int(episode.control["rejected not_finite"]) == int(episode.control["not_finite"])
    commands = np.array([episode.commands[t] for t in sorted(episode.commands)])
    assert np.all(np.isfinite(commands))
    assert np.all(commands == commands[0])  # its one good chunk stood still too


def test_a_node_that_still_writes_is_waited_for_and_others_are_not(
    embodiment_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setattr("moxin_vla.ros.bringup._TELL_S", 0.1)
    config = SystemConfig(embodiment_path, "scripted:hold", record=str(tmp_path / "dataset"))
    system = Bringup(config, tmp_path)
    system._nodes["policy_node"] = replace(system._nodes["policy_node"], ends_within_s=0.2)
    slow = "import signal, time; signal.signal(2, lambda *_: None); print(1, flush=True); {}"
    bodies = {"recorder_node": "signal.pause(); time.sleep(1)", "policy_node": "time.sleep(99)"}
    for name, body in bodies.items():
        command = [sys.executable, "-c", slow.format(body)]
        system._processes[name] = subprocess.Popen(command, stdout=subprocess.PIPE)
        system._processes[name].stdout.readline()  # it has begun
    ended = dict(system._processes)
    system.stop()
    assert {name: p.returncode for name, p in ended.items()} == {
        "recorder_node": 0,
        "policy_node": -signal.SIGKILL,
    }
    assert "Waiting for recorder_node, which is not done yet" in capsys.readouterr().out
