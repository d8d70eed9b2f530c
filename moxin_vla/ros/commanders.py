"""Finds somebody else who commands the robot.

The graph only raises the suspicion, because a process that was killed stays in it for a while; a
message that is not ours proves it. So we listen to our own topic only while it has two publishers.
"""

from collections import deque
from typing import Any

from rclpy.node import Node

from moxin_vla.ros.qos import COMMAND

_REMEMBERED = 400  # commands; one comes back within milliseconds


class CommanderWatch:
    """Watches the topic that a node publishes its commands on; from the executor's thread.

    Args:
        node: Who publishes.
        kind: Message type.
        topic: Resolved name of the topic.
    """

    def __init__(self, node: Node, kind: type, topic: str) -> None:
        self._node, self._kind, self._topic = node, kind, topic
        self._sent: deque[Any] = deque(maxlen=_REMEMBERED)
        self._listening: Any = None
        self.publishers, self.foreign = 1, 0

    def forget(self) -> None:
        """Start afresh: what was heard until now does not count."""
        self.foreign = 0

    def sent(self, message: Any) -> None:
        """Remember what we publish."""
        self._sent.append(message)

    def look(self) -> None:
        """Count publishers; begin or end to listen."""
        self.publishers = self._node.count_publishers(self._topic)
        if self.publishers > 1 and self._listening is None:
            self._listening = self._node.create_subscription(
                self._kind, self._topic, self._on_command, COMMAND
            )
        elif self.publishers <= 1 and self._listening is not None:
            self._node.destroy_subscription(self._listening)
            self._listening = None

    def _on_command(self, message: Any) -> None:
        self.foreign += message not in self._sent
