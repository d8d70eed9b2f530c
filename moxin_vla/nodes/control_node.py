"""control_node: action chunks and joint states in; one safe command per control tick out.

realtime: a steady timer ticks at the control rate. lockstep: each joint state is a tick; at a tick for which a plan is due it waits, without
blocking the executor, for the chunk made from that very state, and after `chunk_wait_s` holds instead.
"""

import sys
import time
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.clock import Clock, ClockType
from sensor_msgs.msg import JointState
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from moxin_vla.core.clock import NS_PER_S
from moxin_vla.core.embodiment import load_embodiment
from moxin_vla.core.errors import MoxinVlaError
from moxin_vla.core.types import ControlMode
from moxin_vla.observation.joints import JointLookup
from moxin_vla.ros.conversions import command_message, message_to_chunk, time_to_ns
from moxin_vla.ros.diagnostics import ERROR, OK, WARN, status_message
from moxin_vla.ros.lifecycle import ManagedNode, run_node
from moxin_vla.ros.qos import COMMAND, sensor_subscription
from moxin_vla.runtime.loop import ControlLoop
from moxin_vla.runtime.schedule import ReplanSchedule
from moxin_vla.safety.limits import JointLimits

_POLL_S = 0.05
_STATUS_TICKS = 4  # ~/status goes out at every change, and this often in between
_LEVELS = {ControlMode.RUNNING: OK, ControlMode.STOPPED: ERROR}


class ControlNode(ManagedNode):
    """The last hop before the robot; imports no torch, so nothing can hold its thread."""

    def __init__(self) -> None:
        super().__init__("control_node")
        for name, default, text in (
            ("embodiment", "", "embodiment file"),
            ("lockstep", False, "tick on joint states and wait for due plans"),
            ("execution_horizon", 8, "control steps between plans, as in policy_node"),
            ("chunk_wait_s", 10.0, "lockstep: longest wait for a due plan, in [s]"),
            (
                "dry_run",
                True,
                "publish commands on ~/dry_run instead; a simulated embodiment ignores it",
            ),
        ):
            self.declare_parameter(name, default, ParameterDescriptor(description=text))

    def setup(self) -> None:
        """Load the robot and build the loop."""
        values: dict[str, Any] = {
            name: self.get_parameter(name).value for name in self._parameters
        }
        self._embodiment = load_embodiment(values["embodiment"])
        self._lockstep, self._wait_s = values["lockstep"], values["chunk_wait_s"]
        self._loop = ControlLoop(self._embodiment, JointLimits(self._embodiment))
        self._schedule = ReplanSchedule(values["execution_horizon"], self._embodiment.step_ns)
        self._lookup = JointLookup(self._embodiment.joint_names)
        dry = values["dry_run"] and not self._embodiment.simulated
        self._commands_out = self.create_lifecycle_publisher(
            JointTrajectory, "~/dry_run" if dry else "~/command", COMMAND
        )
        self.create_subscription(
            JointState,
            self._embodiment.joint_states_topic,
            self._on_joints,
            sensor_subscription(self._lockstep),
        )
        self.create_subscription(
            JointTrajectory, "/policy_node/action_chunk", self._on_chunk, COMMAND
        )
        self._own_services = [
            self.create_service(SetBool, "~/enable", self._on_enable),
            self.create_service(Trigger, "~/reset", self._on_reset),
            self.create_service(Trigger, "~/stop", self._on_stop),
        ]
        self._not_before_ns = 0
        self._proprio, self._proprio_ns = None, None
        self._waiting_since: float | None = None
        self._policy_absent, self._refused, self._told = False, 0, None
        self._sent: JointTrajectory | None = None

    def teardown(self) -> None:
        """Close the services."""
        for service in getattr(self, "_own_services", []):
            self.destroy_service(service)
        self._own_services = []

    def start(self) -> None:
        """Start ticking from the measured pose."""
        self._forget()
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        if self._lockstep:
            self._ticker = self.create_timer(_POLL_S, self._give_up_waiting, clock=steady)
        else:
            period_s = self._embodiment.step_ns / NS_PER_S
            self._ticker = self.create_timer(period_s, self._tick_realtime, clock=steady)

    def halt(self) -> None:
        """Stop ticking: the robot keeps its last command."""
        self.destroy_timer(self._ticker)

    def _forget(self) -> None:
        """Start an episode: nothing stamped until now counts any more."""
        self._not_before_ns = (self._proprio_ns or 0) + 1
        self._loop.reset()
        self._schedule.reset()
        self._proprio, self._waiting_since, self._sent = None, None, None
        self._policy_absent = False

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._loop.enable(request.data)
        response.success = True
        return response

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._forget()
        self._report()
        response.success = True
        return response

    def _on_stop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._loop.stop()
        self._report()
        response.success = True
        return response

    def _on_joints(self, message: JointState) -> None:
        time_ns = time_to_ns(message.header.stamp)
        if not self.active or time_ns < self._not_before_ns:
            return
        try:
            proprio = self._lookup.proprio(message.name, message.position)
        except MoxinVlaError as error:
            self._refused += 1
            self.get_logger().error(f"joint state refused: {error}", throttle_duration_sec=1.0)
            return
        again = time_ns == self._proprio_ns
        self._proprio, self._proprio_ns = proprio, time_ns
        if self._lockstep:
            if again and self._sent is not None:
                self._commands_out.publish(self._sent)  # the simulator did not get it
            else:
                self._tick_lockstep()

    def _on_chunk(self, message: JointTrajectory) -> None:
        if not self.active or time_to_ns(message.header.stamp) < self._not_before_ns:
            return
        try:
            chunk = message_to_chunk(message, self._embodiment.joint_names)
        except MoxinVlaError as error:
            self._refused += 1
            self.get_logger().error(f"action chunk refused: {error}", throttle_duration_sec=1.0)
            return
        verdict = self._loop.commit(chunk, self._now_ns())
        if not verdict.accepted:
            self.get_logger().warning(
                f"action chunk refused: {verdict.reason.value}", throttle_duration_sec=1.0
            )
        self._schedule.mark(chunk.observation_time_ns)
        self._policy_absent = False
        if self._lockstep and self._waiting_since is not None:
            self._tick_lockstep()

    def _now_ns(self) -> int:
        if self._lockstep:
            return self._proprio_ns or 0
        return self.get_clock().now().nanoseconds

    def _tick_lockstep(self) -> None:
        assert self._proprio_ns is not None
        if self._schedule.due(self._proprio_ns) and not self._policy_absent:
            self._waiting_since = self._waiting_since or time.monotonic()
            return
        self._waiting_since = None
        self._tick(self._proprio_ns)

    def _give_up_waiting(self) -> None:
        """Hold when the policy stays silent; wait for it again only once it has spoken."""
        if (
            self._waiting_since is not None
            and time.monotonic() - self._waiting_since > self._wait_s
        ):
            self._policy_absent = True
            self._tick_lockstep()

    def _tick_realtime(self) -> None:
        self._tick(self._now_ns())

    def _tick(self, now_ns: int) -> None:
        command = self._loop.tick(now_ns, self._proprio, self._proprio_ns)
        if command is not None:
            self._sent = command_message(command, self._embodiment.joint_names)
            self._commands_out.publish(self._sent)
        status = self._loop.status()
        if (status.mode, status.reason) != self._told or status.ticks % _STATUS_TICKS == 0:
            self._report()

    def _report(self) -> None:
        status = self._loop.status()
        self._told = (status.mode, status.reason)
        self.publish_status()

    def describe(self) -> DiagnosticStatus:
        """Say what it does, and why it holds if it does."""
        status = self._loop.status()
        values = {
            "mode": status.mode.value,
            "reason": status.reason.value,
            "chunk_age_s": "" if status.chunk_age_s is None else f"{status.chunk_age_s:.3f}",
            "steps_left": status.steps_left,
            "messages refused": self._refused,
            **{
                name: getattr(status, name)
                for name in (
                    "ticks",
                    "commits",
                    "trimmed_steps",
                    "starved_ticks",
                    "stale_ticks",
                    "position_limited",
                    "velocity_limited",
                    "not_finite",
                    "clock_resets",
                )
            },
            **{f"rejected {reason.name.lower()}": n for reason, n in status.rejected.items()},
        }
        level = _LEVELS.get(status.mode, WARN)
        return status_message(
            "control_node", level, status.reason.value or status.mode.value, values
        )


def main() -> int:
    """Run control_node."""
    return run_node(ControlNode)


if __name__ == "__main__":
    sys.exit(main())
