"""Managed nodes: configure fails loudly, inactive publishes nothing, one way to tear down."""

import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import (
    LifecycleNode,
    LifecyclePublisher,
    LifecycleState,
    TransitionCallbackReturn,
)
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from moxin_vla.core.errors import MoxinVlaError
from moxin_vla.ros.dds import apply_dds_profile
from moxin_vla.ros.diagnostics import diagnostics_message
from moxin_vla.ros.ending import noted_signals
from moxin_vla.ros.parameters import declare_parameters
from moxin_vla.ros.qos import COMMAND_PUBLISHER, LATCHED_PUBLISHER

REFUSED = "refused to configure: "  # how a launcher finds the reason in a node's output
DIAGNOSTICS_PERIOD_S = 1.0
_LOOK_S = 0.1  # between looks at whether it was told to end
STEADY = Clock(clock_type=ClockType.STEADY_TIME)  # runs on while simulated time stands still


class ManagedNode(LifecycleNode):
    """Base of policy_node and control_node; subclasses fill `setup`, `start`, `halt`, `teardown`.

    All four run on the executor's thread. Whatever `setup` creates in ROS (publishers,
    subscriptions, services, timers) is destroyed here; `teardown` lets go of the rest and must
    bear half a setup.

    Args:
        name: Node name.
        parameters: Dataclass whose fields are declared as parameters.
    """

    def __init__(self, name: str, parameters: type) -> None:
        super().__init__(name)
        self.active = False
        self._before_setup: set[int] = set()
        declare_parameters(self, parameters)

    def setup(self) -> None:
        """Read parameters, load, create publishers and subscriptions."""
        raise NotImplementedError

    def start(self) -> None:
        """Begin to act."""

    def halt(self) -> None:
        """Come to rest, which may take a moment; nothing may be published afterwards."""

    def teardown(self) -> None:
        """Let go of what `setup` made outside ROS."""

    def describe(self) -> DiagnosticStatus:
        """Return the node's present status for ~/status and /diagnostics."""
        raise NotImplementedError

    def measure(self) -> None:
        """Renew rates and ages; called before each message to /diagnostics."""

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Set up, or say why not."""
        self._before_setup = {id(entity) for entity in self._entities()}
        try:
            self._status_out = self.create_lifecycle_publisher(
                DiagnosticStatus, "~/status", LATCHED_PUBLISHER
            )
            self._diagnostics_out = self.create_lifecycle_publisher(
                DiagnosticArray, "/diagnostics", COMMAND_PUBLISHER
            )
            self.create_timer(DIAGNOSTICS_PERIOD_S, self._diagnose, clock=STEADY)
            self.setup()
        except Exception as error:
            known = isinstance(error, MoxinVlaError)
            refuse(str(error) if known else traceback.format_exc())
            self._release()
            return TransitionCallbackReturn.FAILURE
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Begin to act."""
        super().on_activate(state)
        self.active = True
        self.start()
        self.publish_status()
        return TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop acting."""
        self._silence()
        super().on_deactivate(state)
        return TransitionCallbackReturn.SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Back to unconfigured."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop for good."""
        self._silence()
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Go back to unconfigured after a transition has failed unexpectedly."""
        self.get_logger().error("a transition failed; the node is unconfigured now")
        self._silence()
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def publish_status(self) -> None:
        """Publish ~/status now, if active."""
        if self.active:
            self._status_out.publish(self.describe())

    def _silence(self) -> None:
        if self.active:
            self.halt()
        self.active = False

    def _diagnose(self) -> None:
        if self.active:
            self.measure()
            now = self.get_clock().now().to_msg()
            self._diagnostics_out.publish(diagnostics_message(now, self.describe()))

    def _entities(self) -> list[Any]:
        kinds = (self.publishers, self.subscriptions, self.services, self.timers, self.guards)
        return [entity for kind in kinds for entity in kind]

    def _release(self) -> None:
        self.teardown()
        destroyers: tuple[tuple[Any, Callable[[Any], bool]], ...] = (
            (self.timers, self.destroy_timer),
            (self.subscriptions, self.destroy_subscription),
            (self.services, self.destroy_service),
            (self.guards, self.destroy_guard_condition),
            (self.publishers, self._destroy_publisher),
        )
        for entities, destroy in destroyers:
            for entity in [e for e in entities if id(e) not in self._before_setup]:
                destroy(entity)

    def _destroy_publisher(self, publisher: Any) -> bool:
        if isinstance(publisher, LifecyclePublisher):
            return self.destroy_lifecycle_publisher(publisher)
        return self.destroy_publisher(publisher)


def refuse(reason: str) -> None:
    """Say on stderr why this node does not run, in a form that `Bringup` finds and passes on."""
    print(f"{REFUSED}{reason}", file=sys.stderr, flush=True)


def run_node(
    make: Callable[[], Node], argv: Sequence[str] | None = None, *, images: bool = False
) -> int:
    """Spin a node in a process of its own until it is told to end; returns the exit code.

    Args:
        make: Makes the node.
        argv: The command line; None: the process's.
        images: Whether the node publishes or hears images.
    """
    apply_dds_profile(images=images)
    rclpy.init(args=argv)
    return _run(make, lambda executor: executor.spin())


def run_patient_node(
    make: Callable[[], Node], argv: Sequence[str] | None = None, *, images: bool = False
) -> int:
    """Spin a node as `run_node` does, but end it between two callbacks only, however often it is
    told to, and let it take the time it needs.
    """
    apply_dds_profile(images=images)
    with noted_signals() as told:
        rclpy.init(args=argv, signal_handler_options=SignalHandlerOptions.NO)

        def spin(executor: SingleThreadedExecutor) -> None:
            while not told.is_set():
                executor.spin_once(timeout_sec=_LOOK_S)

        return _run(make, spin)


def _run(make: Callable[[], Node], spin: Callable[[SingleThreadedExecutor], None]) -> int:
    node = None
    try:
        node = make()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        spin(executor)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except MoxinVlaError as error:
        refuse(str(error))
        return 2
    except Exception:
        if rclpy.ok():
            raise
        # told to end while it was starting: whatever that broke is no error
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return 0
