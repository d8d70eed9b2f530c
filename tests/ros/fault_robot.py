"""A robot and a policy that break on request: real topics, but in a thread of the test."""

import contextlib
import threading
import time
from collections.abc import Callable

import numpy as np
import rclpy
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from moxin_vla.core.embodiment import Embodiment
from moxin_vla.core.messages import message_to_command
from moxin_vla.core.types import ActionChunk
from moxin_vla.ros.conversions import chunk_message, image_message, joint_state_message, ns_to_time
from moxin_vla.ros.diagnostics import status_values
from moxin_vla.ros.qos import COMMAND, COMMAND_PUBLISHER, LATCHED, RECORDING

HOME = np.array([0.0, -0.6, 0.6, 0.6, 0.0, 0.4])
_SWEEP_RAD, _PERIOD_TICKS, _HORIZON, _EVERY = 0.3, 40, 16, 8


class FaultRobot(threading.Thread):
    """An arm that is where it was commanded one tick ago; drives /clock; records everything.

    The flags may be set from the test's thread.
    """

    def __init__(self, embodiment: Embodiment) -> None:
        super().__init__(name="robot", daemon=True)
        self._robot = embodiment
        self._context = Context()
        rclpy.init(context=self._context)
        self.node = rclpy.create_node("fault_robot", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        make = self.node.create_publisher
        self._clock = make(Clock, "/clock", COMMAND)
        self._joints = make(JointState, embodiment.joint_states_topic, RECORDING)
        self._images = {c.name: make(Image, c.topic, RECORDING) for c in embodiment.cameras}
        self._instruction = make(String, "policy_node/instruction", COMMAND)
        self._chunks = make(JointTrajectory, "policy_node/action_chunk", COMMAND_PUBLISHER)
        subscribe = self.node.create_subscription
        subscribe(JointTrajectory, "control_node/command", self._on_command, RECORDING)
        subscribe(DiagnosticStatus, "control_node/status", self._on_status, LATCHED)
        self.now_ns, self._tick, self._target = 10**9, 0, HOME.copy()
        self.commands: list[tuple[float, np.ndarray]] = []  # (steady time [s], positions (D,))
        self.measured: list[np.ndarray] = []
        self.reasons: list[tuple[float, str, str]] = []  # (steady time [s], mode, reason)
        self.values: dict[str, str] = {}
        self._closing = False
        self.mend()

    def mend(self) -> None:
        """Undo every fault."""
        self.powered = self.joints_on = self.cameras_on = True
        self.frozen = self.plans = False
        self.names = self._robot.joint_names
        self.spoil: Callable[[JointTrajectory], list[JointTrajectory]] = lambda message: [message]

    def run(self) -> None:
        """Play ticks at the control rate until closed."""
        period_s, due_s = self._robot.step_ns / 1e9, time.monotonic()
        with contextlib.suppress(ExternalShutdownException):
            while not self._closing:
                due_s = max(due_s + period_s, time.monotonic())
                if self.powered:
                    self._step()
                while (left_s := due_s - time.monotonic()) > 0:
                    self._executor.spin_once(timeout_sec=left_s)

    def close(self) -> None:
        """End the thread and leave the graph."""
        self._closing = True
        self.join()
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)

    def restart(self) -> None:
        """Begin again as after a power cut: clock at its start, arm at home."""
        self.now_ns, self._target = 10**9, HOME.copy()

    def _step(self) -> None:
        self.now_ns += self._robot.step_ns
        self._tick += 1
        self._clock.publish(Clock(clock=ns_to_time(self.now_ns)))
        self.measured.append(self._target.copy())
        if self.joints_on:
            by_name = dict(zip(self._robot.joint_names, self._target, strict=True))
            positions = np.array([by_name[name] for name in self.names])
            self._joints.publish(joint_state_message(self.now_ns, self.names, positions))
        if self.cameras_on:
            pixels = np.full((96, 96, 3), 0 if self.frozen else self._tick % 250, np.uint8)
            for name, out in self._images.items():
                out.publish(image_message(self.now_ns, f"{name}_frame", pixels))
        if self._tick % 5 == 0:
            self._instruction.publish(String(data="sweep"))
        if self.plans and self._tick % _EVERY == 0:
            self.plan()

    def plan(self) -> None:
        """Publish a plan as a policy would: from where the arm is into a swing about home."""
        phase = 2 * np.pi * (self._tick + np.arange(_HORIZON)) / _PERIOD_TICKS
        actions = np.tile(HOME, (_HORIZON, 1))
        actions[:, 0] += _SWEEP_RAD * np.sin(phase)
        share = np.minimum(1.0, np.arange(_HORIZON) / _HORIZON)[:, None]
        actions = share * actions + (1.0 - share) * self._target
        chunk = ActionChunk(self.now_ns, self._robot.step_ns, actions)
        for message in self.spoil(chunk_message(chunk, self._robot.joint_names)):
            self._chunks.publish(message)

    def _on_command(self, message: JointTrajectory) -> None:
        _, self._target = message_to_command(message, self._robot.joint_names)
        self.commands.append((time.monotonic(), self._target))

    def _on_status(self, message: DiagnosticStatus) -> None:
        self.values = status_values(message)
        said = (self.values["mode"], self.values["reason"])
        if not self.reasons or self.reasons[-1][1:] != said:
            self.reasons.append((time.monotonic(), *said))


def stamped(message: JointTrajectory, shift_ns: int) -> JointTrajectory:
    """Shift a chunk's stamp by [ns]."""
    time_ns = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec + shift_ns
    message.header.stamp = Time(sec=time_ns // 10**9, nanosec=time_ns % 10**9)
    return message
