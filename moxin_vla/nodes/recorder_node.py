"""recorder_node: what the topics say in; episodes of a LeRobotDataset v3 out.

It listens only. Services begin and end episodes; a thread of its own encodes and writes. What is
stamped up to the end of an episode belongs to it, also if it arrives a little later.
"""

import dataclasses
import sys
import time
from collections import deque
from collections.abc import Callable
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

from moxin_vla.core.dataset import Drove
from moxin_vla.core.embodiment import load_embodiment
from moxin_vla.core.errors import MoxinVlaError, RecordingError, listed
from moxin_vla.core.images import decode_compressed
from moxin_vla.core.joints import JointLookup
from moxin_vla.recording.codec import AUTO, choose_codec
from moxin_vla.recording.features import recording_features
from moxin_vla.recording.metadata import dataset_metadata, rows_per_second
from moxin_vla.recording.recorder import Recorder, Written
from moxin_vla.recording.rows import JOINTS, Row, RowAssembler
from moxin_vla.recording.store import DatasetStore
from moxin_vla.ros.conversions import image_pixels, message_to_command, time_to_ns
from moxin_vla.ros.diagnostics import ERROR, OK, WARN, Arrivals, status_message, status_values
from moxin_vla.ros.lifecycle import STEADY, ManagedNode, run_node
from moxin_vla.ros.parameters import ParameterError, parameter, read_parameters
from moxin_vla.ros.qos import COMMAND, LATCHED, RECORDING, RECORDING_BEST_EFFORT

_STATUS_S = 0.2
_LINGER_S = 0.7  # how long the end of an episode waits for what is still on its way
_SILENT_S = 2.0  # without a command for so long an episode ends
_DRIVERS = {"policy": Drove.POLICY, "operator": Drove.OPERATOR}
_REPORTED = {"policy": "policy_node/status", "control": "control_node/status"}


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
    max_waiting_mb: int = parameter(1000, "pixels that may wait for the encoder", (10, 1_000_000))
    min_free_mb: int = parameter(500, "an episode ends when less of the disk is free", (0, 10**9))


class _Sensor(NamedTuple):
    kind: type
    topic: str
    callback: Callable[[Any], None]


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
        codec = choose_codec(values.codec)
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
        self._written: deque[Written] = deque()  # by the writing thread
        self._recorder = Recorder(
            store,
            robot,
            self._written.append,
            values.max_waiting_mb * 1_000_000,
            values.min_free_mb * 1_000_000,
        )
        self._codec, self._episodes, self._lost = codec.name, store.episodes, 0
        self._assembler = RowAssembler(robot)
        self._assembler.instruction = values.instruction
        self._lookup, self._arrivals = JointLookup(robot.joint_names), Arrivals()
        self._reports: dict[str, dict[str, str]] = {}
        self._rows, self._operator_rows, self._success = 0, 0, -1
        self._said, self._trouble = "", ""
        self._end_s, self._end_why, self._heard_s = 0.0, "", 0.0
        self._newest_tick_ns = -1
        self._connect()

    def _connect(self) -> None:
        robot = self._embodiment
        self._sensors: dict[str, _Sensor] = {
            camera.name: _Sensor(
                CompressedImage if camera.topic.endswith("/compressed") else Image,
                camera.topic,
                partial(self._on_image, camera.name),
            )
            for camera in robot.cameras
        }
        self._sensors[JOINTS] = _Sensor(JointState, robot.joint_states_topic, self._on_joints)
        self._subscriptions_of: dict[str, Subscription] = {}
        for name in self._sensors:
            self._listen(name, RECORDING)
        for kind, topic, callback, qos in (
            (JointTrajectory, "control_node/command", self._on_command, RECORDING),
            (JointTrajectory, "control_node/action", self._on_action, RECORDING),
            (String, "policy_node/instruction", self._on_instruction, COMMAND),
            (DiagnosticStatus, "sim_node/episode", partial(self._on_report, "episode"), LATCHED),
        ):
            self.create_subscription(kind, topic, callback, qos)
        for name, topic in _REPORTED.items():
            self.create_subscription(
                DiagnosticStatus, topic, partial(self._on_report, name), LATCHED
            )
        for name, answer in (
            ("start", self._on_start),
            ("stop", self._on_stop),
            ("discard", self._on_discard),
            ("success", partial(self._on_mark, 1)),
            ("failure", partial(self._on_mark, 0)),
        ):
            self.create_service(Trigger, f"~/{name}", answer)
        self.create_timer(_STATUS_S, self._look, clock=STEADY)

    def _listen(self, name: str, qos: QoSProfile) -> None:
        sensor = self._sensors[name]
        self._subscriptions_of[name] = self.create_subscription(
            sensor.kind, sensor.topic, sensor.callback, qos
        )

    def teardown(self) -> None:
        """Write what is waiting and close the dataset."""
        if self._recorder is not None:
            self._recorder.close()
            self._report()
        self._recorder = None

    def halt(self) -> None:
        """Keep the episode that is running."""
        if self._writer.recording:
            self._finish("the node was deactivated")

    def destroy_node(self) -> None:
        """Keep the running episode and close the dataset, however the node ends."""
        if self._recorder is not None and self._recorder.recording:
            self._finish("the recorder was told to end")
        self.teardown()
        super().destroy_node()

    @property
    def _writer(self) -> Recorder:
        assert self._recorder is not None
        return self._recorder

    def _on_start(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if not self.active:
            return _answer(response, False, "the node is not active")
        if self._writer.recording:
            return _answer(response, False, "an episode is being recorded; stop it first")
        if not self._assembler.instruction.strip():
            return _answer(
                response,
                False,
                "no instruction: publish it on /policy_node/instruction, or set the parameter",
            )
        try:
            self._writer.begin()
        except RecordingError as error:
            self._trouble = str(error)
            return _answer(response, False, self._trouble)
        self._assembler.begin(self._newest_tick_ns)
        self._rows, self._operator_rows, self._success = 0, 0, -1
        self._trouble, self._end_why = "", ""
        self._heard_s = time.monotonic()
        text = f"recording episode {self._episodes}"
        if lacks := self._assembler.lacks:
            text += f"; nothing yet from: {listed(lacks)}"
        self._say(text)
        return _answer(response, True, text)

    def _on_stop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if not self._writer.recording or self._end_why:
            return _answer(response, False, "no episode is being recorded")
        self._end_soon("asked to")
        return _answer(response, True, f"episode {self._episodes} ends with {self._rows} rows")

    def _on_discard(
        self, request: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        if not self._writer.recording:
            return _answer(response, False, "no episode is being recorded")
        self._assembler.end()
        self._end_why = ""
        self._writer.discard("discarded")
        return _answer(response, True, f"{self._rows} rows are discarded")

    def _on_mark(
        self, success: int, request: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        if not self._writer.recording:
            return _answer(response, False, "no episode is being recorded")
        self._success = success
        word = "success" if success else "failure"
        return _answer(response, True, f"episode {self._episodes} is marked a {word}")

    def _on_image(self, camera: str, message: Image | CompressedImage) -> None:
        if not self.active:
            return
        self._arrivals.note(camera)
        raw = isinstance(message, Image)
        try:
            pixels = image_pixels(message) if raw else decode_compressed(message.data)
            self._assembler.put_image(camera, time_to_ns(message.header.stamp), pixels)
        except MoxinVlaError as error:
            self._break(f"camera '{camera}': {error}")
            return
        self._add()

    def _on_joints(self, message: JointState) -> None:
        if not self.active:
            return
        self._arrivals.note(JOINTS)
        try:
            proprio = self._lookup.proprio(message.name, message.position)
        except MoxinVlaError as error:
            self._break(f"joint state refused: {error}")
            return
        self._assembler.put_joints(time_to_ns(message.header.stamp), proprio)
        self._add()

    def _on_action(self, message: JointTrajectory) -> None:
        if not self.active:
            return
        driver = _DRIVERS.get(message.header.frame_id, Drove.NOBODY)
        age_ms, positions = -1.0, None
        try:
            if message.points:
                _, positions = message_to_command(message, self._embodiment.joint_names)
                age_ms = time_to_ns(message.points[0].time_from_start) / 1e6
        except MoxinVlaError as error:
            self._break(f"control_node's action: {error}")
            return
        tick_ns = time_to_ns(message.header.stamp)
        age_ms = age_ms if driver is Drove.POLICY else -1.0
        self._assembler.put_request(tick_ns, driver, positions, age_ms)
        self._add()

    def _on_command(self, message: JointTrajectory) -> None:
        if not self.active:
            return
        self._arrivals.note("commands")
        self._heard_s = time.monotonic()
        try:
            tick_ns, positions = message_to_command(message, self._embodiment.joint_names)
            self._assembler.put_command(tick_ns, positions)
        except MoxinVlaError as error:
            self._break(str(error))
            self._newest_tick_ns = -1
            return
        self._newest_tick_ns = tick_ns
        self._add()

    def _on_instruction(self, message: String) -> None:
        if message.data.strip():
            self._assembler.instruction = message.data.strip()

    def _on_report(self, name: str, message: DiagnosticStatus) -> None:
        self._reports[name] = status_values(message)
        told = self._reports[name].get("instruction", "").strip()
        if name == "policy" and told:
            self._assembler.instruction = told

    def _add(self) -> None:
        """Hand complete rows to the writing thread."""
        if not self._writer.recording:
            return
        try:
            self._take(self._assembler.rows())
        except RecordingError as error:
            self._break(str(error))

    def _take(self, rows: list[Row]) -> None:
        self._writer.add(rows)
        self._rows += len(rows)
        self._operator_rows += sum(row.driver is Drove.OPERATOR for row in rows)

    def _break(self, why: str) -> None:
        """End the episode because something is wrong; what was good of it is kept."""
        self.get_logger().error(why, throttle_duration_sec=1.0)
        self._trouble = why
        if self._writer.recording:
            self._finish(why)

    def _end_soon(self, why: str) -> None:
        """Take no more ticks, and wait a little for what belongs to those there are."""
        self._assembler.end()
        self._end_why, self._end_s = why, time.monotonic()

    def _finish(self, why: str) -> None:
        """End the episode now and let it be written."""
        self._assembler.end()
        try:
            self._take(self._assembler.rows(final=True))
        except RecordingError as error:
            why = why if why == str(error) else f"{why}; {error}"
        self._end_why = ""
        self._writer.finish(self._success, why, self._details())

    def _details(self) -> dict[str, Any]:
        counts = self._assembler.counts
        return {
            "embodiment": self._embodiment.name,
            "streams": {name: dataclasses.asdict(count) for name, count in counts.items()},
            "ticks before all streams had begun": self._assembler.skipped_ticks,
            "reports": {name: dict(values) for name, values in self._reports.items()},
        }

    def _look(self) -> None:
        """Look after what no message tells."""
        if not self.active:
            return
        self._report()
        self._match_drivers()
        if not self._writer.recording:
            pass
        elif self._end_why:
            done = self._assembler.pending == 0
            if done or time.monotonic() - self._end_s > _LINGER_S:
                self._finish(self._end_why)
        elif time.monotonic() - self._heard_s > _SILENT_S and self._rows:
            self._break(f"no command from control_node for {_SILENT_S:g} s")
        self.publish_status()

    def _match_drivers(self) -> None:
        """Listen to drivers that publish best effort: they do not reach a reliable subscriber."""
        for name, subscription in list(self._subscriptions_of.items()):
            reliable = subscription.qos_profile.reliability == ReliabilityPolicy.RELIABLE
            if reliable and any(
                info.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT
                for info in self.get_publishers_info_by_topic(subscription.topic_name)
            ):
                self.destroy_subscription(subscription)
                self._listen(name, RECORDING_BEST_EFFORT)

    def _report(self) -> None:
        """Say what has become of episodes since the last time."""
        while self._written:
            written = self._written.popleft()
            if written.index is not None:
                self._episodes = written.index + 1
                self._say(f"episode {written.index} saved: {written.rows} rows; {written.why}")
            elif written.failed:
                self._lost += 1
                self._trouble = f"the episode of {written.rows} rows is lost: {written.why}"
                self.get_logger().error(self._trouble)
                self._assembler.end()
                self._writer.recording = False
            else:
                self._say(f"{written.rows} rows dropped: {written.why}")

    def _say(self, text: str) -> None:
        self._said = text
        self.get_logger().info(text)

    def measure(self) -> None:
        """Renew the rates of what arrives."""
        self._arrivals.measure()

    def describe(self) -> DiagnosticStatus:
        """Say what is being recorded, and what was lost, repeated or late."""
        recorder, counts = self._writer, self._assembler.counts
        values: dict[str, Any] = {
            "recording": recorder.recording,
            "episodes": self._episodes,
            "rows": self._rows,
            "seconds": f"{self._rows / self._embodiment.control_rate_hz:.1f}",
            "success": {1: "yes", 0: "no"}.get(self._success, ""),
            "instruction": self._assembler.instruction,
            "codec": self._codec,
            "waiting for the encoder MB": f"{recorder.waiting_bytes / 1e6:.0f}",
            "episodes lost": self._lost,
            "operator rows": self._operator_rows,
            "last": self._said,
            "trouble": self._trouble,
        }
        for name, count in counts.items():
            for field in ("received", "used", "repeated", "dropped", "late"):
                values[f"{name} {field}"] = getattr(count, field)
        values |= self._arrivals.rates
        if self._trouble:
            return status_message("recorder_node", ERROR, self._trouble, values)
        if lacks := self._assembler.lacks:
            return status_message(
                "recorder_node", WARN, f"nothing yet from: {listed(lacks)}", values
            )
        text = f"recording episode {self._episodes}" if recorder.recording else "ready"
        return status_message("recorder_node", OK, text, values)


def _answer(response: Trigger.Response, success: bool, message: str) -> Trigger.Response:
    response.success, response.message = success, message
    return response


def main() -> int:
    """Run recorder_node."""
    return run_node(RecorderNode)


if __name__ == "__main__":
    sys.exit(main())
