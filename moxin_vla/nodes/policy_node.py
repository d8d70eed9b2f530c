"""policy_node: cameras, joint states and an instruction in; action chunks out.

The executor's thread takes messages and assembles observations; a worker thread runs the policy, newest observation first. A plan is asked
for whenever `ReplanSchedule` says that one is due.
"""

import sys
from functools import partial

from diagnostic_msgs.msg import DiagnosticStatus
from rcl_interfaces.msg import ParameterDescriptor
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from moxin_vla.core.embodiment import load_embodiment
from moxin_vla.core.errors import MoxinVlaError
from moxin_vla.core.types import ActionChunk, checked_instruction
from moxin_vla.observation.assembler import ObservationAssembler
from moxin_vla.observation.images import decode_compressed, decode_raw
from moxin_vla.policy.loading import load_policy
from moxin_vla.ros.conversions import chunk_message, time_to_ns
from moxin_vla.ros.diagnostics import ERROR, OK, WARN, Recent, status_message
from moxin_vla.ros.lifecycle import ManagedNode, run_node
from moxin_vla.ros.qos import COMMAND, sensor_subscription
from moxin_vla.runtime.schedule import ReplanSchedule
from moxin_vla.runtime.worker import InferenceWorker


class PolicyNode(ManagedNode):
    """Runs one policy for one robot."""

    def __init__(self) -> None:
        super().__init__("policy_node")
        for name, default, text in (
            ("embodiment", "", "embodiment file"),
            ("policy", "", "checkpoint directory, or scripted:NAME"),
            ("device", "cpu", "torch device"),
            ("execution_horizon", 8, "control steps between plans"),
            ("lossless", False, "subscribe reliably to sensors, for lockstep"),
        ):
            self.declare_parameter(name, default, ParameterDescriptor(description=text))
        self._worker: InferenceWorker | None = None

    def setup(self) -> None:
        """Load robot and policy, and check that they fit."""
        values = {name: self.get_parameter(name).value for name in self._parameters}
        self._embodiment = load_embodiment(values["embodiment"])
        self._policy = load_policy(values["policy"], self._embodiment, values["device"])
        cameras = self._policy.spec.cameras or self._embodiment.camera_names
        self._assembler = ObservationAssembler(self._embodiment, cameras)
        self._schedule = ReplanSchedule(values["execution_horizon"], self._embodiment.step_ns)
        self._worker = InferenceWorker(self._policy, self._on_chunk)
        self._chunks_out = self.create_lifecycle_publisher(
            JointTrajectory, "~/action_chunk", COMMAND
        )
        self._subscribe(cameras, sensor_subscription(values["lossless"]))
        self._reset_service = self.create_service(Trigger, "~/reset", self._on_reset)
        self._instruction, self._trouble = "", ""
        self._not_before_ns, self._newest_ns = 0, 0
        self._count = {
            "chunks": 0,
            "observations refused": 0,
            "instructions refused": 0,
            "errors": 0,
        }
        self._inference_ms = Recent()

    def _subscribe(self, cameras: tuple[str, ...], qos: object) -> None:
        for name in cameras:
            topic = self._embodiment.camera(name).topic
            if topic.endswith("/compressed"):
                self.create_subscription(
                    CompressedImage, topic, partial(self._on_compressed, name), qos
                )
            else:
                self.create_subscription(Image, topic, partial(self._on_image, name), qos)
        self.create_subscription(
            JointState, self._embodiment.joint_states_topic, self._on_joints, qos
        )
        self.create_subscription(String, "~/instruction", self._on_instruction, COMMAND)

    def teardown(self) -> None:
        """Let go of the policy."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None
        self._policy = None
        if getattr(self, "_reset_service", None) is not None:
            self.destroy_service(self._reset_service)
            self._reset_service = None

    def start(self) -> None:
        """Forget what came while inactive."""
        self._forget()

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._forget()
        response.success = True
        return response

    def _forget(self) -> None:
        """Start an episode: nothing captured until now counts any more."""
        assert self._worker is not None
        self._not_before_ns = self._newest_ns + 1
        self._assembler.reset()
        self._schedule.reset()
        self._worker.reset()
        self._trouble = ""
        self.publish_status()

    def _on_instruction(self, message: String) -> None:
        try:
            self._instruction = checked_instruction(message.data)
            self._trouble = ""
        except MoxinVlaError as error:
            self._count["instructions refused"] += 1
            self._trouble = str(error)
            self.get_logger().error(f"instruction refused: {error}")
        self.publish_status()

    def _on_joints(self, message: JointState) -> None:
        time_ns = time_to_ns(message.header.stamp)
        self._take(
            time_ns, lambda: self._assembler.put_joints(time_ns, message.name, message.position)
        )

    def _on_image(self, camera: str, message: Image) -> None:
        time_ns = time_to_ns(message.header.stamp)
        self._take(time_ns, lambda: self._assembler.put_image(camera, time_ns, _pixels(message)))

    def _on_compressed(self, camera: str, message: CompressedImage) -> None:
        time_ns = time_to_ns(message.header.stamp)
        self._take(
            time_ns,
            lambda: self._assembler.put_image(
                camera, time_ns, decode_compressed(bytes(message.data))
            ),
        )

    def _take(self, time_ns: int, put) -> None:  # noqa: ANN001
        if not self.active:
            return
        self._newest_ns = max(self._newest_ns, time_ns)
        if time_ns < self._not_before_ns:
            return
        try:
            put()
        except MoxinVlaError as error:
            self._count["observations refused"] += 1
            self._trouble = str(error)
            self.get_logger().error(f"observation refused: {error}", throttle_duration_sec=1.0)
            return
        self._plan_if_due()

    def _plan_if_due(self) -> None:
        if not self._instruction or self._worker is None or self._worker.busy:
            return
        observation = self._assembler.newest(self._instruction)
        if observation is not None and self._schedule.due(observation.time_ns):
            self._schedule.mark(observation.time_ns)
            self._worker.submit(observation)

    def _on_chunk(self, chunk: ActionChunk | None, error: Exception | None) -> None:
        """Publish a plan; called from the worker's thread."""
        if not self.active:
            return
        if chunk is None:
            self._count["errors"] += 1
            self._trouble = f"the policy failed: {error}"
            self.get_logger().error(self._trouble, throttle_duration_sec=1.0)
        else:
            self._count["chunks"] += 1
            self._inference_ms.add(chunk.inference_ns / 1e6)
            self._last_inference_ms = chunk.inference_ns / 1e6
            self._chunks_out.publish(chunk_message(chunk, self._embodiment.joint_names))
        self.publish_status()

    def describe(self) -> DiagnosticStatus:
        """Say what it does and what is missing."""
        values = {
            "instruction": self._instruction,
            "policy": self._policy.spec.name,
            "fingerprint": self._policy.spec.fingerprint,
            "inference_ms": f"{getattr(self, '_last_inference_ms', float('nan')):.3f}",
            "inference p50 ms": f"{self._inference_ms.percentile(50):.1f}",
            "inference p99 ms": f"{self._inference_ms.percentile(99):.1f}",
            **self._count,
        }
        if self._trouble:
            return status_message("policy_node", ERROR, self._trouble, values)
        if not self._instruction:
            return status_message("policy_node", WARN, "waiting for an instruction", values)
        waiting = self._assembler.reason
        return status_message(
            "policy_node", WARN if waiting else OK, waiting or "planning", values
        )


def _pixels(message: Image):  # noqa: ANN202
    return decode_raw(message.data, message.encoding, message.height, message.width, message.step)


def main() -> int:
    """Run policy_node."""
    return run_node(PolicyNode)


if __name__ == "__main__":
    sys.exit(main())
