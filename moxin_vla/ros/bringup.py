"""Start the declared system as processes of this machine, without `launch`; end them all after."""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from moxin_vla.core.errors import MoxinVlaError
from moxin_vla.ros.dds import apply_dds_profile, dds_environment
from moxin_vla.ros.lifecycle import REFUSED
from moxin_vla.ros.parameters import as_yaml
from moxin_vla.ros.shared_memory import remove_abandoned
from moxin_vla.system import NodeDeclaration, SystemConfig, declare_system

# configuring reads a checkpoint, which may be 18 GB on a slow disk
_STARTED_S, _CONFIGURED_S, _SHOW_PERIOD_S = 120.0, 900.0, 0.1
_TELL_S = 5.0  # after so long of waiting for a node to end, say so
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


class BringupError(MoxinVlaError):
    """A node could not be started; carries the node's own words."""


class Bringup:
    """The running system, as a context manager: inside, every managed node is active.

    Args:
        config: What to start.
        log_folder: Where each node's output goes; None: a temporary folder, kept after an error.
        passthrough: Show the nodes' output here, too.
        images: Whether this process, too, hears images.

    Raises:
        BringupError: On entering: a node ended, refused its configuration or did not answer in
            time.
    """

    def __init__(
        self,
        config: SystemConfig,
        log_folder: Path | None = None,
        passthrough: bool = False,
        images: bool = False,
    ) -> None:
        self.config, self._passthrough, self._images = config, passthrough, images
        self._own_logs = log_folder is None
        self._logs = log_folder or Path(tempfile.mkdtemp(prefix="moxin_vla_"))
        self._nodes = {node.name: node for node in declare_system(config)}
        self._processes: dict[str, subprocess.Popen] = {}
        self._former_handlers: dict[int, Any] = {}
        self.told_to_end = False  # by Ctrl-C or SIGTERM

    def __enter__(self) -> "Bringup":
        self._environment = dict(os.environ)
        apply_dds_profile(self.config.domain_id, images=self._images)
        self._logs.mkdir(parents=True, exist_ok=True)
        self._catch_signals()
        try:
            self._start()
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        for number, handler in self._former_handlers.items():
            signal.signal(number, handler)
        os.environ.clear()
        os.environ.update(self._environment)
        if self._own_logs and kind is None:
            shutil.rmtree(self._logs, ignore_errors=True)

    def _catch_signals(self) -> None:
        """Let SIGTERM unwind like Ctrl-C, so that the nodes end in order; remember either.

        What a handler raises is lost if it comes while an object is being deleted.
        """
        if threading.current_thread() is threading.main_thread():
            for number, error in ((signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, None)):
                handler = partial(self._told, error)
                self._former_handlers[number] = signal.signal(number, handler)

    def _told(self, error: type[BaseException] | None, number: int, frame: object) -> None:
        self.told_to_end = True
        raise error() if error is not None else SystemExit(128 + number)

    def _start(self) -> None:
        from moxin_vla.ros.lifecycle_client import LifecycleClient

        remove_abandoned()
        with LifecycleClient() as client:
            if twins := client.running(list(self._nodes)):
                raise BringupError(
                    f"{', '.join(twins)} already runs in this ROS domain. End it, or choose "
                    "another domain with ROS_DOMAIN_ID."
                )
            for node in self._nodes.values():
                self._spawn(node)
            if self._passthrough:
                threading.Thread(target=self._show_output, daemon=True).start()
            self._activate(client, [node for node in self._nodes.values() if node.managed])
            for node in self._nodes.values():
                if not node.managed:
                    self._until(node.name, partial(client.answers, node.name), _STARTED_S, "start")

    def pid(self, name: str) -> int:
        """Return a node's process id."""
        return self._processes[name].pid

    def restart(self, name: str) -> None:
        """End a node if it still runs, start it again and bring it to where it was."""
        self._end([name])
        self._spawn(self._nodes[name])
        if self._nodes[name].managed:
            from moxin_vla.ros.lifecycle_client import LifecycleClient

            with LifecycleClient() as client:
                self._activate(client, [self._nodes[name]])

    def ended(self) -> str:
        """Return the name of a node that is no longer running, or an empty string."""
        return next((n for n, p in self._processes.items() if p.poll() is not None), "")

    def output(self, name: str) -> str:
        """Return what a node has printed."""
        path = self._logs / f"{name}.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""

    def stop(self) -> None:
        """End every process: SIGINT, then SIGKILL. Idempotent."""
        self._end(list(self._processes))

    def _spawn(self, node: NodeDeclaration) -> None:
        command = [sys.executable, "-m", f"moxin_vla.nodes.{node.name}", "--ros-args"]
        for key, value in node.parameters.items():
            command += ["-p", f"{key}:={as_yaml(value)}"]
        environment = dds_environment(self.config.domain_id) | {"PYTHONUNBUFFERED": "1"}
        with (self._logs / f"{node.name}.log").open("ab") as log:
            self._processes[node.name] = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches us, and we end them in order
                preexec_fn=_die_with_parent,
            )

    def _show_output(self) -> None:
        """Print what the nodes append to their logs, a line at a time; runs in its own thread."""
        shown = dict.fromkeys(self._nodes, 0)
        while self._processes:
            for name in shown:
                text = self.output(name)[shown[name] :]
                complete = text[: text.rfind("\n") + 1]
                shown[name] += len(complete)
                for line in complete.splitlines():
                    print(f"[{name}] {line}", flush=True)
            time.sleep(_SHOW_PERIOD_S)

    def _activate(self, client: Any, nodes: list[NodeDeclaration]) -> None:
        for node in nodes:
            self._until(node.name, partial(client.reachable, node.name), _STARTED_S, "start")
        for node in nodes:
            if not client.configure(node.name, _CONFIGURED_S, self._check):
                raise BringupError(self._refusal(node.name))
        for node in nodes:
            if not client.activate(node.name, _STARTED_S, self._check):
                raise BringupError(f"{node.name} could not be activated.\n{self._tail(node.name)}")

    def _until(self, name: str, condition: Any, timeout_s: float, what: str) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            self._check()
            if time.monotonic() > deadline:
                raise BringupError(
                    f"{name} did not {what} within {timeout_s:.0f} s.\n{self._tail(name)}"
                )
            time.sleep(0.05)

    def _check(self) -> None:
        """Raise if any process has ended."""
        if not (name := self.ended()):
            return
        if REFUSED in self.output(name):
            raise BringupError(self._refusal(name))
        code = self._processes[name].returncode
        raise BringupError(f"{name} ended with exit code {code}.\n{self._tail(name)}")

    def _refusal(self, name: str) -> str:
        time.sleep(0.1)  # the message is on its way to the file
        _, found, reason = self.output(name).rpartition(REFUSED)
        reason = reason.split("\n[")[0]  # what the ROS logger may have said since
        return f"{name}: {reason.strip()}" if found else f"{name} refused.\n{self._tail(name)}"

    def _tail(self, name: str) -> str:
        return "\n".join(f"  {name} | {line}" for line in self.output(name).splitlines()[-15:])

    def _end(self, names: list[str]) -> None:
        running = {n: self._processes[n] for n in names if n in self._processes}
        for process in running.values():
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        began_s = time.monotonic()
        for name, process in running.items():
            self._wait_for_end(name, process, began_s)
        for name in names:
            self._processes.pop(name, None)

    def _wait_for_end(self, name: str, process: subprocess.Popen, began_s: float) -> None:
        """Wait for a process as long as its node may take; then kill it."""
        patience_s = self._nodes[name].ends_within_s
        for until_s in (min(_TELL_S, patience_s), patience_s):
            try:
                process.wait(max(0.05, began_s + until_s - time.monotonic()))
                return
            except subprocess.TimeoutExpired:
                if until_s < patience_s:
                    print(f"Waiting for {name}, which is not done yet ...", flush=True)
        process.kill()
        process.wait()


def _die_with_parent() -> None:
    """Ask the kernel to end this child when its parent dies, even by SIGKILL (Linux)."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() == 1:
            os._exit(1)
