"""What the topics show of an episode: a listener that drives nothing."""

from dataclasses import dataclass, field

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import Image, JointState
from trajectory_msgs.msg import JointTrajectory

from moxin_vla.core.embodiment import Embodiment
from moxin_vla.core.joints import JointLookup
from moxin_vla.core.messages import image_pixels, message_to_chunk, message_to_command, time_to_ns
from moxin_vla.core.protocols import EpisodeSpec, EpisodeStatus
from moxin_vla.core.types import ActionChunk
from moxin_vla.ros.diagnostics import status_values
from moxin_vla.ros.episode_status import EpisodeReport, message_to_report
from moxin_vla.ros.qos import LATCHED, RECORDING


@dataclass(slots=True)
class RosEpisode:
    """What the topics showed of one episode; stamps in [ns], angles in [rad].

    Attributes:
        spec: What was asked.
        status: How it stands, judged by sim_node.
        proprio: Stamp -> measured joints, shape (D,).
        commands: Stamp -> commanded joints, shape (D,).
        chunks: Plans in the order of their arrival.
        frames: Images of the bystander's camera, if filmed.
        inference_ms: Wall time of each plan, in [ms].
        control: control_node's status at the end.
        history: (mode, reason) of control_node, whenever they changed.
        error: What broke; empty if nothing did.
    """

    spec: EpisodeSpec
    status: EpisodeStatus = field(default_factory=lambda: EpisodeStatus(0, 1, False))
    proprio: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    commands: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    chunks: list[ActionChunk] = field(default_factory=list)
    frames: list[NDArray[np.uint8]] = field(default_factory=list)
    inference_ms: list[float] = field(default_factory=list)
    control: dict[str, str] = field(default_factory=dict)
    history: list[tuple[str, str]] = field(default_factory=list)
    error: str = ""


class EpisodeRecorder:
    """Subscribes to everything an episode shows and fills a `RosEpisode`, nothing lost.

    Args:
        node: Whose executor handles the messages.
        embodiment: The robot of the running system.
    """

    def __init__(self, node: Node, embodiment: Embodiment) -> None:
        self._node, self._joints = node, embodiment.joint_names
        self._lookup = JointLookup(self._joints)
        self._episode: RosEpisode | None = None
        self._number, self._after_ns, self._planned_ns = 0, 0, 0
        self._overview = None
        self.report: EpisodeReport | None = None
        self.control: dict[str, str] = {}
        self.policy: dict[str, str] = {}
        self._subscribe(embodiment.joint_states_topic)

    def _subscribe(self, joint_states_topic: str) -> None:
        for kind, topic, callback, qos in (
            (DiagnosticStatus, "sim_node/episode", self._on_report, LATCHED),
            (DiagnosticStatus, "control_node/status", self._on_control, RECORDING),
            (DiagnosticStatus, "policy_node/status", self._on_policy, RECORDING),
            (JointState, joint_states_topic, self._on_joints, RECORDING),
            (JointTrajectory, "control_node/command", self._on_command, RECORDING),
            (JointTrajectory, "policy_node/action_chunk", self._on_chunk, RECORDING),
        ):
            self._node.create_subscription(kind, topic, callback, qos)

    def start(self, spec: EpisodeSpec, report: EpisodeReport) -> RosEpisode:
        """Record the episode of `report` from here on; what is stamped before it is left out."""
        self._number, self._after_ns = report.episode, report.published_ns
        self._episode = RosEpisode(spec, report.status)
        self._episode.history.clear()
        return self._episode

    def stop(self) -> None:
        """Record no more."""
        self._episode = None

    def film(self, wanted: bool) -> None:
        """Subscribe to the bystander's camera, or stop to: it costs rendering."""
        if wanted and self._overview is None:
            self._overview = self._node.create_subscription(
                Image, "sim_node/overview", self._on_overview, RECORDING
            )
        elif not wanted and self._overview is not None:
            self._node.destroy_subscription(self._overview)
            self._overview = None

    def _on_report(self, message: DiagnosticStatus) -> None:
        self.report = message_to_report(message)
        if self._episode is not None and self.report.episode == self._number:
            self._episode.status = self.report.status

    def _on_control(self, message: DiagnosticStatus) -> None:
        self.control = status_values(message)
        if self._episode is None:
            return
        self._episode.control = self.control
        state = (self.control["mode"], self.control["reason"])
        if self._episode.history[-1:] != [state]:
            self._episode.history.append(state)

    def _on_policy(self, message: DiagnosticStatus) -> None:
        self.policy = status_values(message)
        planned_ns = int(self.policy.get("observation_time_ns", 0))
        if self._episode is None or planned_ns <= max(self._after_ns, self._planned_ns):
            return
        self._planned_ns = planned_ns
        if message.message.startswith("the policy failed"):
            self._episode.error = message.message
        else:
            self._episode.inference_ms.append(float(self.policy["inference_ms"]))

    def _on_joints(self, message: JointState) -> None:
        time_ns = time_to_ns(message.header.stamp)
        if self._episode is not None and time_ns > self._after_ns:
            proprio = self._lookup.proprio(message.name, message.position)
            self._episode.proprio[time_ns] = proprio

    def _on_command(self, message: JointTrajectory) -> None:
        time_ns, positions = message_to_command(message, self._joints)
        if self._episode is not None and time_ns > self._after_ns:
            self._episode.commands[time_ns] = positions

    def _on_chunk(self, message: JointTrajectory) -> None:
        chunk = message_to_chunk(message, self._joints)
        if self._episode is not None and chunk.observation_time_ns > self._after_ns:
            self._episode.chunks.append(chunk)

    def _on_overview(self, message: Image) -> None:
        if self._episode is not None and time_to_ns(message.header.stamp) > self._after_ns:
            self._episode.frames.append(np.array(image_pixels(message)))
