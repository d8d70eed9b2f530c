"""recorder_node: what the topics say in; episodes of a LeRobotDataset v3 out.

It listens only. Services begin and end episodes; a thread of its own encodes and writes. What is
stamped up to the end of an episode belongs to it, also if it arrives a little later.
"""

import sys
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from moxin_vla.core.clock import NS_PER_S
from moxin_vla.core.embodiment import load_embodiment
from moxin_vla.core.errors import listed
from moxin_vla.recording.codec import AUTO, choose_codec
from moxin_vla.recording.features import recording_features
from moxin_vla.recording.intake import Intake, absolute
from moxin_vla.recording.metadata import dataset_metadata, rows_per_second
from moxin_vla.recording.recorder import Recorder, Written
from moxin_vla.recording.session import Answer, RecordingSession
from moxin_vla.recording.store import DatasetStore
from moxin_vla.ros.diagnostics import ERROR, OK, WARN, Arrivals, status_message, status_values
from moxin_vla.ros.lifecycle import STEADY, ManagedNode, run_patient_node
from moxin_vla.ros.parameters import ParameterError, parameter, read_parameters
from moxin_vla.ros.qos import (
    COMMAND,
    COMMAND_PUBLISHER,
    LATCHED,
    RECORDING,
    RECORDING_BEST_EFFORT,
)

_LOOK_S, _STATUS_LOOKS = 0.05, 4
_EVER_NS = 2**63 - 1
_REPORTED = {
    "policy": "policy_node/status",
    "control": "control_node/status",
    "episode": "sim_node/episode",
}


@dataclass(frozen=True, slots=True)
class RecorderParameters:
    """Parameters of recorder_node."""

    embodiment: str = parameter("", "embodiment file")
    root: str = parameter("", "folder of the dataset: a new one, or one to extend")
    instruction: str = parameter(
        "", "what the arm is to do, if nobody says so on /policy_node/instruction"
    )
    codec: str = parameter(
        AUTO, "how images are stored: auto, png (every pixel as it was), or an encoder's name"
    )
    lockstep: bool = parameter(
        False, "time stands still when an episode is over: what comes after `stop` is part of it"
    )
    max_waiting_mb: int = parameter(1000, "pixels that may wait for the encoder", (10, 1_000_000))
    min_free_mb: int = parameter(500, "an episode ends when less of the disk is free", (0, 10**9))


class _Sensor(NamedTuple):
    kind: type
    topic: str
    name: str


class RecorderNode(ManagedNode):
    """Records one episode at a time."""

    def __init__(self) -> None:
        super().__init__("recorder_node", RecorderParameters)
        self._recorder: Recorder | None = None

    def setup(self) -> None:
        """Open the dataset and subscribe."""
        values = read_parameters(self, RecorderParameters)
        if not values.root:
            raise ParameterError("root: name the folder of the dataset.")
        self._embodiment = robot = load_embodiment(values.embodiment)
        codec = choose_codec(values.codec, [(c.width, c.height) for c in robot.cameras])
        store = DatasetStore(
            root=Path(values.root),
            features=recording_features(robot, codec.kind),
            fps=rows_per_second(robot),
            robot_type=robot.name,
            metadata=dataset_metadata(robot, Path(values.embodiment), codec),
            codec=codec,
        )
        for what in store.recovered:
            self.get_logger().warning(f"left by the last recording: {what}")
        self.get_logger().info(
            f"'{values.root}' has {store.episodes} episodes; images by {codec.name}: {codec.why}"
        )
        written: deque[Written] = deque()  # filled by the writing thread
        self._recorder = Recorder(
            store,
            robot,
            written.append,
            values.max_waiting_mb * 1_000_000,
            values.min_free_mb * 1_000_000,
        )
        self._codec, self._reports = codec.name, {}
        self._lockstep, self._looks = values.lockstep, 0
        self._intake, self._arrivals = Intake(robot, values.instruction), Arrivals()
        self._session = RecordingSession(
            self._intake,
            self._recorder,
            written,
            store.episodes,
            self._say,
            self._announce,
            lambda: {"embodiment": robot.name, "reports": dict(self._reports)},
        )
        self._connect()

    def _connect(self) -> None:
        self._bounds_out = self.create_publisher(DiagnosticStatus, "~/episode", COMMAND_PUBLISHER)
        kinds = {
            absolute(camera.topic): CompressedImage
            if camera.topic.endswith("/compressed")
            else Image
            for camera in self._embodiment.cameras
        } | {absolute(self._embodiment.joint_states_topic): JointState}
        self._sensors = {
            topic: _Sensor(kinds[topic], topic, name)
            for name, topic in ((n, absolute(t)) for n, t in self._intake.sensors.items())
        }
        self._subscriptions_of: dict[str, Subscription] = {}
        for topic in self._sensors:
            self._listen(topic, RECORDING)
        for kind, topic, qos in (
            (JointTrajectory, "control_node/command", RECORDING),
            (JointTrajectory, "control_node/action", RECORDING),
            (String, "policy_node/instruction", COMMAND),
        ):
            taker = partial(self._take, absolute(topic), topic.rpartition("/")[2])
            self.create_subscription(kind, topic, taker, qos)
        for name, topic in _REPORTED.items():
            taker = partial(self._on_report, name)
            self.create_subscription(DiagnosticStatus, topic, taker, LATCHED)
        for name, order in (
            ("start", self._start),
            ("stop", self._stop),
            ("discard", lambda: self._session.discard()),
            ("success", lambda: self._session.mark(1)),
            ("failure", lambda: self._session.mark(0)),
        ):
            self.create_service(Trigger, f"~/{name}", partial(_serve, order))
        self.create_timer(_LOOK_S, self._look, clock=STEADY)

    def _listen(self, topic: str, qos: QoSProfile) -> None:
        sensor = self._sensors[topic]
        taker = partial(self._take, topic, sensor.name)
        self._subscriptions_of[topic] = self.create_subscription(sensor.kind, topic, taker, qos)

    def teardown(self) -> None:
        """Write what is waiting and close the dataset."""
        if self._recorder is not None:
            self._recorder.close()
            self._session.report()
        self._recorder = None

    def halt(self) -> None:
        """Keep the episode that is running."""
        if self._session.recording:
            self._session.finish("the node was deactivated")

    def destroy_node(self) -> None:
        """Keep the running episode and close the dataset, however the node ends."""
        try:
            if self._recorder is not None and self._session.recording:
                self.get_logger().info("told to end: writing what was recorded ...")
                self._session.finish("the recorder was told to end")
        finally:
            self.teardown()
            super().destroy_node()

    def _start(self) -> Answer:
        return self._session.start() if self.active else Answer(False, "the node is not active")

    def _stop(self) -> Answer:
        """End the episode now; ticks that were commanded before may still be on their way."""
        if self._lockstep:
            return self._session.stop(_EVER_NS, True)
        now_ns = self.get_clock().now().nanoseconds
        ours = abs(now_ns - self._intake.rows.newest_tick_ns) < NS_PER_S
        return self._session.stop(now_ns if ours else None)  # ticks may have another clock

    def _take(self, topic: str, name: str, message: Any) -> None:
        if not self.active:
            return
        self._arrivals.note(name)
        self._session.take(topic, message)

    def _on_report(self, name: str, message: DiagnosticStatus) -> None:
        self._reports[name] = status_values(message)
        told = self._reports[name].get("instruction", "").strip()
        if name == "policy" and told:
            self._intake.rows.instruction = told

    def _look(self) -> None:
        if not self.active:
            return
        self._session.look()
        self._looks += 1
        if self._looks % _STATUS_LOOKS == 0:
            self._match_drivers()
            self.publish_status()

    def _match_drivers(self) -> None:
        """Listen to drivers that publish best effort: they do not reach a reliable subscriber."""
        for topic, subscription in list(self._subscriptions_of.items()):
            reliable = subscription.qos_profile.reliability == ReliabilityPolicy.RELIABLE
            if reliable and any(
                info.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT
                for info in self.get_publishers_info_by_topic(topic)
            ):
                self.destroy_subscription(subscription)
                self._listen(topic, RECORDING_BEST_EFFORT)

    def _announce(self, bounds: Mapping[str, Any]) -> None:
        """Publish where an episode begins and ends, for whoever records a bag."""
        if self.context.ok():  # after SIGTERM nobody can be told
            self._bounds_out.publish(status_message("recorder_node", OK, "", bounds))

    def _say(self, text: str, trouble: bool) -> None:
        if trouble:
            self.get_logger().error(text, throttle_duration_sec=1.0)
        else:
            self.get_logger().info(text)

    def measure(self) -> None:
        """Renew the rates of what arrives."""
        self._arrivals.measure()

    def describe(self) -> DiagnosticStatus:
        """Say what is being recorded, and what was lost, repeated or late."""
        session, rows = self._session, self._intake.rows
        assert self._recorder is not None
        values: dict[str, Any] = {
            "recording": session.recording,
            "episodes": session.episodes,
            "rows": session.rows,
            "seconds": f"{session.rows / self._embodiment.control_rate_hz:.1f}",
            "success": {1: "yes", 0: "no"}.get(session.success, ""),
            "instruction": rows.instruction,
            "codec": self._codec,
            "waiting for the encoder MB": f"{self._recorder.waiting_bytes / 1e6:.0f}",
            "episodes lost": session.lost,
            "operator rows": session.operator_rows,
            "last": session.said,
            "trouble": session.trouble,
        }
        for name, count in rows.counts.items():
            for field in ("received", "used", "repeated", "dropped", "late"):
                values[f"{name} {field}"] = getattr(count, field)
        values |= self._arrivals.rates
        if session.trouble:
            return status_message("recorder_node", ERROR, session.trouble, values)
        if rows.lacks:
            text = f"nothing yet from: {listed(rows.lacks)}"
            return status_message("recorder_node", WARN, text, values)
        if session.recording and not session.rows and rows.waits_for:
            text = f"no row yet: nothing that fits the ticks' stamps from {listed(rows.waits_for)}"
            return status_message("recorder_node", WARN, text, values)
        text = f"recording episode {session.episodes}" if session.recording else "ready"
        return status_message("recorder_node", OK, text, values)


def _serve(
    order: Callable[[], Answer], request: Trigger.Request, response: Trigger.Response
) -> Trigger.Response:
    response.success, response.message = order()
    return response


def main() -> int:
    """Run recorder_node."""
    return run_patient_node(RecorderNode, images=True)


if __name__ == "__main__":
    sys.exit(main())
