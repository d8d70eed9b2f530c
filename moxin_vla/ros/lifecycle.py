"""Managed nodes: configure fails loudly, inactive publishes nothing, one way to tear down."""

import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.node import Node

from moxin_vla.core.errors import MoxinVlaError
from moxin_vla.ros.dds import apply_dds_profile
from moxin_vla.ros.diagnostics import diagnostics_message
from moxin_vla.ros.qos import COMMAND, LATCHED

REFUSED = "refused to configure: "  # how a launcher finds the reason in a node's output
_DIAGNOSTICS_PERIOD_S = 1.0


class ManagedNode(LifecycleNode):
    """Base of policy_node and control_node; subclasses fill `setup`, `start`, `halt` and `teardown`.

    All four run on the executor's thread. `setup` may be slow and may raise MoxinVlaError; `teardown` must bear half a setup.
    """

    def __init__(self, name: str, **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        self.active = False

    def setup(self) -> None:
        """Read parameters, load, create publishers and subscriptions."""
        raise NotImplementedError

    def start(self) -> None:
        """Begin to act."""

    def halt(self) -> None:
        """Stop acting; nothing may be published afterwards."""

    def teardown(self) -> None:
        """Let go of everything `setup` made."""

    def describe(self) -> DiagnosticStatus:
        """Return the node's present status for ~/status and /diagnostics."""
        raise NotImplementedError

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Set up, or say why not."""
        try:
            self._status_publisher = self.create_lifecycle_publisher(
                DiagnosticStatus, "~/status", LATCHED
            )
            self._diagnostics = self.create_lifecycle_publisher(
                DiagnosticArray, "/diagnostics", COMMAND
            )
            self.setup()
        except MoxinVlaError as error:
            self.get_logger().error(f"{REFUSED}{error}")
            print(f"{REFUSED}{error}", file=sys.stderr, flush=True)
            self._release()
            return TransitionCallbackReturn.FAILURE
        self._timer = self.create_timer(_DIAGNOSTICS_PERIOD_S, self._diagnose)
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Begin to act."""
        super().on_activate(state)
        self.active = True
        try:
            self.start()
            self.publish_status()
        except Exception:
            self.get_logger().error(traceback.format_exc())
            raise
        return TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop acting."""
        self.halt()
        self.active = False
        super().on_deactivate(state)
        return TransitionCallbackReturn.SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Back to unconfigured."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop for good."""
        if self.active:
            self.halt()
        self.active = False
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Recover to unconfigured after an unexpected error."""
        self.get_logger().error(traceback.format_exc())
        self.active = False
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def publish_status(self) -> None:
        """Publish ~/status now, if active."""
        if self.active:
            self._status_publisher.publish(self.describe())

    def _diagnose(self) -> None:
        if self.active:
            now = self.get_clock().now().to_msg()
            self._diagnostics.publish(diagnostics_message(now, self.describe()))

    def _release(self) -> None:
        self.teardown()
        for timer in list(self.timers):
            self.destroy_timer(timer)
        for subscription in list(self.subscriptions):
            if not subscription.topic_name.endswith(("/clock", "/parameter_events")):
                self.destroy_subscription(subscription)


def run_node(make: Callable[[], Node], argv: Sequence[str] | None = None) -> int:
    """Spin a node in a process of its own until it is told to end; returns the exit code."""
    apply_dds_profile()
    rclpy.init(args=argv)
    node = None
    try:
        node = make()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except MoxinVlaError as error:
        print(f"{REFUSED}{error}", file=sys.stderr, flush=True)
        return 2
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return 0
