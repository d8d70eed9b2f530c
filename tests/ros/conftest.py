"""Real nodes over real DDS: a private domain on this machine only, and no process left behind."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: pip install 'moxin_vla[ros]'")
pytest.importorskip("moxin_sim", reason="needs the simulator: pip install 'moxin_vla[sim]'")

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor

from moxin_vla.core.embodiment import Embodiment, load_embodiment
from moxin_vla.core.resources import resource_path
from moxin_vla.ros.bringup import Bringup
from moxin_vla.ros.dds import dds_environment
from moxin_vla.ros.episode_client import EpisodeClient
from moxin_vla.ros.patient_call import patient_call
from moxin_vla.ros.shared_memory import remove_abandoned
from moxin_vla.system import SystemConfig

PATIENCE_S = 60.0  # a bound on hanging, not on speed: the machine may be busy


@pytest.fixture(scope="session", autouse=True)
def domain_id() -> Iterator[int]:
    """Put this process into a domain of its own."""
    before = dict(os.environ)
    number = 20 + os.getpid() % 40
    os.environ.update(dds_environment(number))
    os.environ["OMP_NUM_THREADS"] = "1"
    remove_abandoned()  # by tests of former runs that kill
    yield number
    remove_abandoned(newborn_s=5.0)  # others may be starting on this machine
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def embodiment_path() -> Path:
    return resource_path("config/embodiments/so101_sim.yaml")


@pytest.fixture(scope="session")
def embodiment(embodiment_path: Path) -> Embodiment:
    return load_embodiment(embodiment_path)


class Listener:
    """A node of the test's own: keeps every message of a topic, with nothing lost."""

    def __init__(self) -> None:
        self._context = Context()
        rclpy.init(context=self._context)
        self.node = rclpy.create_node("test_listener", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)

    def hear(self, kind: type, topic: str, qos: Any) -> list[Any]:
        """Subscribe; returns the list that messages are appended to."""
        heard: list[Any] = []
        self.node.create_subscription(kind, topic, heard.append, qos)
        return heard

    def spin_once(self) -> None:
        """Handle one message, if one is there."""
        self._executor.spin_once(timeout_sec=0.05)

    def until(self, condition: Callable[[], Any], what: str, timeout_s: float = PATIENCE_S) -> Any:
        """Handle messages until a condition holds; fail with `what` if it never does."""
        deadline = time.monotonic() + timeout_s
        while not (result := condition()):
            self.spin_once()
            assert time.monotonic() < deadline, f"never happened within {timeout_s} s: {what}"
        return result

    def call(self, kind: type, service: str, request: Any) -> Any:
        """Call a service and return its answer."""
        client = self.node.create_client(kind, service)
        answer = patient_call(client, request, self.spin_once, PATIENCE_S)
        assert answer is not None, f"{service} does not answer"
        return answer

    def close(self) -> None:
        """Leave the graph."""
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)


@pytest.fixture
def listener(domain_id: int) -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.close()


@pytest.fixture(scope="session")
def start_system(domain_id: int, embodiment_path: Path, embodiment: Embodiment) -> Callable:
    """Return a context manager that brings a system up: `.system` and `.client` inside."""

    @contextmanager
    def start(policy: str, mode: str = "lockstep", **changes: Any) -> Iterator[SimpleNamespace]:
        config = SystemConfig(
            embodiment=changes.pop("embodiment", embodiment_path),
            policy=policy,
            mode=mode,
            domain_id=domain_id,
            **changes,
        )
        with Bringup(config) as system, EpisodeClient(embodiment) as client:
            yield SimpleNamespace(system=system, client=client)

    return start
