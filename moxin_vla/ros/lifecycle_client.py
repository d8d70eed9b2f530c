"""Drives managed nodes of other processes through their transitions."""

import time
from collections.abc import Callable, Sequence
from types import TracebackType

import rclpy
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import GetParameters
from rclpy.client import Client
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor

from moxin_vla.core.errors import MoxinVlaError
from moxin_vla.ros.patient_call import patient_call

# DDS announces itself at once and then every 3 s; a lost first announcement must not hide a node.
_DISCOVERY_S, _SETTLE_S = 4.0, 0.5
_ANSWER_S, _ANSWER_AGAIN_S, _SPIN_S = 4.0, 0.5, 0.05
_TRANSITION_AGAIN_S = 10.0  # loading a policy may take that long without anything being lost
_GOALS = {
    Transition.TRANSITION_CONFIGURE: State.PRIMARY_STATE_INACTIVE,
    Transition.TRANSITION_ACTIVATE: State.PRIMARY_STATE_ACTIVE,
    Transition.TRANSITION_DEACTIVATE: State.PRIMARY_STATE_INACTIVE,
}


class LifecycleClient:
    """A small node in a context of its own; use as a context manager, from one thread."""

    def __enter__(self) -> "LifecycleClient":
        self._context = Context()
        rclpy.init(context=self._context)
        self._node = rclpy.create_node("moxin_lifecycle_client", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._clients: dict[tuple[type, str], Client] = {}
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
        return self._client(ChangeState, f"{name}/change_state").service_is_ready()

    def running(self, names: Sequence[str]) -> list[str]:
        """Return which of these nodes live in the domain now; takes up to four seconds.

        A node that was killed stays in the graph for a while, so those found are asked.
        """
        deadline = time.monotonic() + _DISCOVERY_S
        while time.monotonic() < deadline:
            self._spin_once()
            if not set(names).isdisjoint(self._node.get_node_names()):
                deadline = min(deadline, time.monotonic() + _SETTLE_S)
        found = [name for name in names if name in self._node.get_node_names()]
        return [name for name in found if self.answers(name)]

    def configure(self, name: str, timeout_s: float, check: Callable[[], None]) -> bool:
        """Configure a node; `check` is called while waiting and may raise."""
        return self._change(name, Transition.TRANSITION_CONFIGURE, timeout_s, check)

    def activate(self, name: str, timeout_s: float, check: Callable[[], None]) -> bool:
        """Activate a node; `check` is called while waiting and may raise."""
        return self._change(name, Transition.TRANSITION_ACTIVATE, timeout_s, check)

    def deactivate(self, name: str, timeout_s: float, check: Callable[[], None]) -> bool:
        """Deactivate a node; `check` is called while waiting and may raise."""
        return self._change(name, Transition.TRANSITION_DEACTIVATE, timeout_s, check)

    def _client(self, kind: type, service: str) -> Client:
        if (kind, service) not in self._clients:
            self._clients[kind, service] = self._node.create_client(kind, f"/{service}")
        return self._clients[kind, service]

    def _spin_once(self) -> None:
        self._executor.spin_once(timeout_sec=_SPIN_S)

    def answers(self, name: str) -> bool:
        """Return whether the node serves its parameters: it has been built and spins."""
        client = self._client(GetParameters, f"{name}/get_parameters")
        request = GetParameters.Request()
        answer = patient_call(client, request, self._spin_once, _ANSWER_S, _ANSWER_AGAIN_S)
        return answer is not None

    def _change(
        self, name: str, transition: int, timeout_s: float, check: Callable[[], None]
    ) -> bool:
        """Ask for a transition; return whether the node is where it leads.

        Only the first answer counts, and it may be to a repetition that came too late to be
        allowed: the state afterwards tells.

        Raises:
            MoxinVlaError: The node does not answer.
        """

        def spin_once() -> None:
            self._spin_once()
            check()

        request = ChangeState.Request(transition=Transition(id=transition))
        client = self._client(ChangeState, f"{name}/change_state")
        answer = patient_call(client, request, spin_once, timeout_s, _TRANSITION_AGAIN_S)
        if answer is not None and answer.success:
            return True
        client = self._client(GetState, f"{name}/get_state")
        state = patient_call(client, GetState.Request(), spin_once, timeout_s) if answer else None
        if state is None:
            raise MoxinVlaError(f"{name} did not answer within {timeout_s:.0f} s.")
        return state.current_state.id == _GOALS[transition]
