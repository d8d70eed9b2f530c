"""Runs episodes on a system that is up, through topics and services only."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from numpy.typing import NDArray
from rcl_interfaces.msg import Parameter
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter as RclpyParameter
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from moxin_vla.core.embodiment import Embodiment
from moxin_vla.core.errors import MoxinVlaError
from moxin_vla.core.protocols import EpisodeSpec, EpisodeStatus
from moxin_vla.core.types import ActionChunk
from moxin_vla.observation.images import decode_raw
from moxin_vla.observation.joints import JointLookup
from moxin_vla.ros.conversions import message_to_chunk, message_to_command, time_to_ns
from moxin_vla.ros.diagnostics import status_values
from moxin_vla.ros.qos import COMMAND, LATCHED, sensor_subscription

_SERVICE_S = 10.0
_STALL_S = 30.0  # no message of the episode for this long: it can't go on


@dataclass(slots=True)
class RosEpisode:
    """What the topics showed of one episode; times in [ns], angles in [rad]."""

    spec: EpisodeSpec
    status: EpisodeStatus = field(default_factory=lambda: EpisodeStatus(0, 1, False))
    proprio: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    commands: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    chunks: list[ActionChunk] = field(default_factory=list)
    frames: list[NDArray[np.uint8]] = field(default_factory=list)
    inference_ms: list[float] = field(default_factory=list)
    control: dict[str, str] = field(default_factory=dict)
    error: str = ""


class EpisodeClient:
    """A node in a context of its own; use as a context manager, from one thread.

    Args:
        embodiment: The robot of the running system.
        check: Called while waiting; may raise, for example when a process has ended.
    """

    def __init__(self, embodiment: Embodiment, check: Callable[[], None] = lambda: None) -> None:
        self._embodiment, self._check = embodiment, check
        self._lookup = JointLookup(embodiment.joint_names)
        self._episode: RosEpisode | None = None
        self._live, self._film, self._count, self._first_ns = False, False, 0, 0

    def __enter__(self) -> "EpisodeClient":
        self._context = Context()
        rclpy.init(context=self._context)
        self._node = rclpy.create_node("moxin_evaluator", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        node, sensors = self._node, sensor_subscription(lossless=True)
        node.create_subscription(DiagnosticStatus, "/sim_node/episode", self._on_episode, LATCHED)
        node.create_subscription(
            JointState, self._embodiment.joint_states_topic, self._on_joints, sensors
        )
        node.create_subscription(
            JointTrajectory, "/control_node/command", self._on_command, COMMAND
        )
        node.create_subscription(
            JointTrajectory, "/policy_node/action_chunk", self._on_chunk, COMMAND
        )
        node.create_subscription(DiagnosticStatus, "/policy_node/status", self._on_policy, LATCHED)
        node.create_subscription(
            DiagnosticStatus, "/control_node/status", self._on_control, LATCHED
        )
        self._overview: Any = None
        self._instruction = node.create_publisher(String, "/policy_node/instruction", COMMAND)
        self._set = node.create_client(SetParameters, "/sim_node/set_parameters")
        self._pause = node.create_client(SetBool, "/sim_node/pause")
        self._resets = {
            name: node.create_client(Trigger, f"/{name}/reset")
            for name in ("sim_node", "policy_node", "control_node")
        }
        self._heard, self.control = "", {}
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

    def begin(self, spec: EpisodeSpec, film: bool = False) -> RosEpisode:
        """Set up an episode and let it start.

        Raises:
            MoxinVlaError: A service does not answer or refuses.
        """
        self._live, self._episode = False, None
        self._film_overview(film)
        self._call(self._pause, SetBool.Request(data=True))
        values = {"seed": spec.seed, "family": spec.family, "instruction": spec.instruction}
        parameters: list[Parameter] = [
            RclpyParameter(name, value=value).to_parameter_msg() for name, value in values.items()
        ]
        self._call(self._set, SetParameters.Request(parameters=parameters))
        for name, client in self._resets.items():
            answer = self._call(client, Trigger.Request())
            if not answer.success:
                raise MoxinVlaError(f"{name} refused to reset: {answer.message}")
        self._tell(spec.instruction)
        self._episode, self._live = RosEpisode(spec), True
        self._call(self._pause, SetBool.Request(data=False))
        return self._episode

    def run(self, spec: EpisodeSpec, film: bool = False, timeout_s: float = 300.0) -> RosEpisode:
        """Play an episode to its end; returns what the topics showed."""
        episode = self.begin(spec, film)
        self.spin_until(lambda: episode.status.done, timeout_s)
        self.spin_for(0.05)  # the last command is on its way
        self._live = False
        if not episode.status.done:
            episode.error = f"the episode did not end: nothing moved for {_STALL_S:.0f} s"
        return episode

    def spin_until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Handle messages until a condition holds; returns whether it does. Gives up early if the episode stalls."""
        deadline, progress, moved = time.monotonic() + timeout_s, -1, time.monotonic()
        while not condition() and time.monotonic() < deadline:
            self._executor.spin_once(timeout_sec=0.1)
            self._check()
            if self._count != progress:
                progress, moved = self._count, time.monotonic()
            elif time.monotonic() - moved > _STALL_S:
                break
        return condition()

    def spin_for(self, seconds: float) -> None:
        """Handle messages for some time."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left)
            self._check()

    def _tell(self, instruction: str) -> None:
        """Publish the instruction until policy_node's status shows it."""
        deadline = time.monotonic() + _SERVICE_S
        while self._heard != instruction:
            self._instruction.publish(String(data=instruction))
            self.spin_for(0.1)
            if time.monotonic() > deadline:
                raise MoxinVlaError(f"policy_node did not take the instruction '{instruction}'.")

    def _call(self, client: Any, request: Any) -> Any:
        deadline = time.monotonic() + _SERVICE_S
        while not client.service_is_ready():
            self.spin_for(0.05)
            if time.monotonic() > deadline:
                raise MoxinVlaError(f"The service {client.srv_name} is not there.")
        future = client.call_async(request)
        while not future.done():
            self._executor.spin_once(timeout_sec=0.1)
            self._check()
            if time.monotonic() > deadline:
                raise MoxinVlaError(f"The service {client.srv_name} did not answer.")
        return future.result()

    def _film_overview(self, film: bool) -> None:
        if film and self._overview is None:
            self._overview = self._node.create_subscription(
                Image, "/sim_node/overview", self._on_overview, sensor_subscription(lossless=True)
            )
        elif not film and self._overview is not None:
            self._node.destroy_subscription(self._overview)
            self._overview = None

    def _on_episode(self, message: DiagnosticStatus) -> None:
        self._count += 1
        if self._live and self._episode is not None:
            values = status_values(message)
            if values["instruction"] == self._episode.spec.instruction:
                self._episode.status = EpisodeStatus(
                    step=int(values["step"]),
                    horizon=int(values["horizon"]),
                    success=values["success"] == "True",
                    failure=values["failure"],
                )

    def _on_joints(self, message: JointState) -> None:
        if self._live and self._episode is not None:
            proprio = self._lookup.proprio(message.name, message.position)
            self._episode.proprio[time_to_ns(message.header.stamp)] = proprio

    def _on_command(self, message: JointTrajectory) -> None:
        if self._live and self._episode is not None:
            time_ns, positions = message_to_command(message, self._embodiment.joint_names)
            self._episode.commands[time_ns] = positions

    def _on_chunk(self, message: JointTrajectory) -> None:
        if self._live and self._episode is not None:
            self._episode.chunks.append(message_to_chunk(message, self._embodiment.joint_names))

    def _on_overview(self, message: Image) -> None:
        if self._live and self._episode is not None:
            pixels = decode_raw(
                message.data, message.encoding, message.height, message.width, message.step
            )
            self._episode.frames.append(np.array(pixels))

    def _on_policy(self, message: DiagnosticStatus) -> None:
        values = status_values(message)
        self._heard = values.get("instruction", "")
        if self._live and self._episode is not None and int(values["chunks"]) > 0:
            if len(self._episode.inference_ms) < len(self._episode.chunks):
                self._episode.inference_ms.append(float(values["inference_ms"]))

    def _on_control(self, message: DiagnosticStatus) -> None:
        self.control = status_values(message)
        if self._live and self._episode is not None:
            self._episode.control = self.control
