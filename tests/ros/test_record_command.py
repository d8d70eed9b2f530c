"""`moxin-vla record` in a terminal: keys begin and end an episode, and Ctrl-C keeps it."""

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("lerobot", reason="needs lerobot: pip install 'moxin_vla[data]'")

from moxin_sim import sample_episode
from tests.recording.episodes import loaded

PATIENCE_S = 60.0


class Typist:
    """Somebody at a terminal in which the command runs."""

    def __init__(self, terminal: int, process: subprocess.Popen) -> None:
        self.process, self._terminal, self.read = process, terminal, ""

    def type(self, keys: str) -> None:
        os.write(self._terminal, keys.encode())

    def until(self, words: str) -> None:
        """Read until the screen has shown words since the last call."""
        deadline = time.monotonic() + PATIENCE_S
        while words not in self.read:
            assert time.monotonic() < deadline, f"never read '{words}' in:\n{self.read[-3000:]}"
            if select.select([self._terminal], [], [], 0.1)[0]:
                self.read += os.read(self._terminal, 65536).decode(errors="replace")
        self.read = ""


@contextmanager
def at_a_terminal(*words: object) -> Iterator[Typist]:
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "moxin_vla.cli.main", *map(str, words)]
    environment = dict(os.environ) | {"TERM": "xterm-256color", "COLUMNS": "120"}
    process = subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True
    )
    os.close(slave)
    try:
        yield Typist(master, process)
    finally:
        process.kill()
        process.wait()
        os.close(master)


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(lambda typist: typist.type("\x1b[99;5u"), id="Ctrl-C as a key"),
        pytest.param(lambda typist: typist.process.send_signal(signal.SIGHUP), id="closed"),
    ],
)
def test_keys_begin_an_episode_and_whatever_ends_the_command_keeps_it(
    start_system: Callable, tmp_path: Path, end: Callable
) -> None:
    root = tmp_path / "dataset"
    how = {"simulation_parameters": {"horizon_steps": 100_000}}
    with start_system("scripted:sweep", mode="realtime", **how) as running:
        running.client.begin(sample_episode("touch", 3))
        with at_a_terminal("record", root, "--instruction", "wave", "--codec", "png") as typist:
            typist.until("ready")
            typist.type("n")
            typist.until("recording episode 0")
            time.sleep(1.5)  # of the robot's time
            typist.type("j")
            typist.until("marked a success")
            end(typist)
            assert typist.process.wait(PATIENCE_S) == 0
    dataset = loaded(root)
    assert dataset.num_episodes == 1 and dataset.num_frames > 10
    assert {int(row["record.success"]) for row in dataset} == {1}
