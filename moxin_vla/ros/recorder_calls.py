"""Passes an operator's wishes about the recording on to recorder_node, if it is there."""

from functools import partial
from typing import Any

from rclpy.node import Node
from std_srvs.srv import Trigger

from moxin_vla.teleop.base import OperatorEvent

_SERVICES = {
    OperatorEvent.START: "start",
    OperatorEvent.STOP: "stop",
    OperatorEvent.SUCCESS: "success",
    OperatorEvent.FAILURE: "failure",
    OperatorEvent.DISCARD: "discard",
}


class RecorderCalls:
    """Calls recorder_node's services without waiting for them.

    Args:
        node: Whose executor handles the answers.
    """

    def __init__(self, node: Node) -> None:
        self._clients = {
            event: node.create_client(Trigger, f"recorder_node/{name}")
            for event, name in _SERVICES.items()
        }
        self.answer = ""  # the last one, in words

    def forward(self, event: OperatorEvent) -> None:
        """Call the service that an event stands for; other events are none of ours."""
        if event not in self._clients:
            return
        if not self._clients[event].service_is_ready():
            self.answer = f"{event.value}: there is no recorder_node"
            return
        future = self._clients[event].call_async(Trigger.Request())
        future.add_done_callback(partial(self._on_answer, event))

    def _on_answer(self, event: OperatorEvent, future: Any) -> None:
        answer = future.result()
        said = answer.message or ("done" if answer.success else "refused")
        self.answer = f"{event.value}: {said}"
