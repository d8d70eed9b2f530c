"""Drives managed nodes of other processes through their transitions."""

import time
from collections.abc import Callable, Sequence
from types import TracebackType

import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.srv import GetParameters
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor

_DISCOVERY_S, _ANSWER_S = 0.5, 2.0


class LifecycleClient:
    """A small node in a context of its own; use as a context manager, from one thread."""

    def __enter__(self) -> "LifecycleClient":
        self._context = Context()
        rclpy.init(context=self._context)
        self._node = rclpy.create_node("moxin_lifecycle_client", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._clients: dict = {}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)

    def reachable(self, name: str) -> bool:
        """Return whether the node's transition service is there."""
        return self._client(name).service_is_ready()

    def running(self, names: Sequence[str]) -> list[str]:
        """Return which of these nodes live in the domain now; takes half a second.

        A node that was killed stays in the graph for a while, so those found are asked.
        """
        deadline = time.monotonic() + _DISCOVERY_S
        while time.monotonic() < deadline:
            self._executor.spin_once(timeout_sec=0.05)
        found = [name for name in names if name in self._node.get_node_names()]
        return [name for name in found if self._answers(name)]

    def _answers(self, name: str) -> bool:
        client = self._node.create_client(GetParameters, f"/{name}/get_parameters")
        future = client.call_async(GetParameters.Request())
        deadline = time.monotonic() + _ANSWER_S
        while not future.done() and time.monotonic() < deadline:
            self._executor.spin_once(timeout_sec=0.05)
        return future.done()

    def configure(self, name: str, timeout_s: float, check: Callable[[], None]) -> bool:
        """Configure a node; `check` is called while waiting and may raise."""
        return self._change(name, Transition.TRANSITION_CONFIGURE, timeout_s, check)

    def activate(self, name: str, timeout_s: float, check: Callable[[], None]) -> bool:
        """Activate a node; `check` is called while waiting and may raise."""
        return self._change(name, Transition.TRANSITION_ACTIVATE, timeout_s, check)

    def deactivate(self, name: str, timeout_s: float, check: Callable[[], None]) -> bool:
        """Deactivate a node; `check` is called while waiting and may raise."""
        return self._change(name, Transition.TRANSITION_DEACTIVATE, timeout_s, check)

    def _client(self, name: str):
        if name not in self._clients:
            self._clients[name] = self._node.create_client(ChangeState, f"/{name}/change_state")
        return self._clients[name]

    def _change(
        self, name: str, transition: int, timeout_s: float, check: Callable[[], None]
    ) -> bool:
        request = ChangeState.Request(transition=Transition(id=transition))
        future = self._client(name).call_async(request)
        deadline = time.monotonic() + timeout_s
        while not future.done() and time.monotonic() < deadline:
            self._executor.spin_once(timeout_sec=0.1)
            check()
        return bool(future.done() and future.result().success)
