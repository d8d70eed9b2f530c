"""policy_node: cameras, joint states and an instruction in; action chunks out.

The executor's thread takes messages, assembles observations and publishes; a worker thread runs
the policy, newest observation first. A plan is asked for whenever `ReplanSchedule` says that one
is due.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from moxin_vla.core.clock import NS_PER_S
from moxin_vla.core.embodiment import load_embodiment
from moxin_vla.core.errors import MoxinVlaError, listed
from moxin_vla.core.types import Observation, checked_instruction
from moxin_vla.observation.assembler import ObservationAssembler
from moxin_vla.observation.images import decode_compressed
from moxin_vla.policy.loading import load_policy
from moxin_vla.ros.conversions import chunk_message, image_pixels, time_to_ns
from moxin_vla.ros.diagnostics import ERROR, OK, WARN, Arrivals, Recent, status_message
from moxin_vla.ros.lifecycle import ManagedNode, run_node
from moxin_vla.ros.parameters import parameter, read_parameters
from moxin_vla.ros.qos import COMMAND, COMMAND_PUBLISHER, sensor_subscription
from moxin_vla.ros.resets import reset_answer
from moxin_vla.runtime.cutoff import Cutoff
from moxin_vla.runtime.schedule import ReplanSchedule
from moxin_vla.runtime.worker import Inference, InferenceWorker

_JOINTS = "joint states"


@dataclass(frozen=True, slots=True)
class PolicyParameters:
    """Parameters of policy_node."""

    embodiment: str = parameter("", "embodiment file")
    policy: str = parameter(
        "", "checkpoint directory, policy file, Hugging Face id, or scripted:NAME"
    )
    device: str = parameter("cpu", "torch device")
    self_test: bool = parameter(True, "false: let a policy act that was not tested at start-up")
    execution_horizon: int = parameter(8, "control steps between plans", bounds=(1, 1000))
    lossless: bool = parameter(False, "subscribe reliably to sensors, for lockstep")


class PolicyNode(ManagedNode):
    """Runs one policy for one robot."""

    def __init__(self) -> None:
        super().__init__("policy_node", PolicyParameters)
        self._worker: InferenceWorker | None = None

    def setup(self) -> None:
        """Load robot and policy, and check that they fit."""
        values = read_parameters(self, PolicyParameters)
        self._embodiment = load_embodiment(values.embodiment)
        if not values.self_test:
            self.get_logger().warning("the self-test was switched off: the policy acts untested")
        policy = load_policy(values.policy, self._embodiment, values.device, values.self_test)
        self._spec = policy.spec
        cameras = self._spec.cameras or self._embodiment.camera_names
        self._assembler = ObservationAssembler(self._embodiment, cameras)
        self._schedule = ReplanSchedule(values.execution_horizon, self._embodiment.step_ns)
        self._cutoff = Cutoff((*cameras, _JOINTS))
        self._wake = self.create_guard_condition(self._publish_results)
        self._worker = InferenceWorker(policy, self._wake.trigger)
        self._instruction, self._joints_ns = "", 0
        self._troubles: dict[str, str] = {}
        self._planned: dict[str, Any] = {}
        self._waiting, self._outside = "", ()
        self._count = dict.fromkeys(
            ("chunks", "observations refused", "instructions refused", "errors"), 0
        )
        self._inference_ms, self._arrivals = Recent(), Arrivals()
        self._connect(cameras, sensor_subscription(values.lossless))

    def _connect(self, cameras: tuple[str, ...], qos: Any) -> None:
        self._chunks_out = self.create_lifecycle_publisher(
            JointTrajectory, "~/action_chunk", COMMAND_PUBLISHER
        )
        self.create_subscription(String, "~/instruction", self._on_instruction, COMMAND)
        self.create_service(Trigger, "~/reset", self._on_reset)
        topic = self._embodiment.joint_states_topic
        self.create_subscription(JointState, topic, self._on_joints, qos)
        for name in cameras:
            topic = self._embodiment.camera(name).topic
            compressed = topic.endswith("/compressed")
            kind, decode = (CompressedImage, _unpack) if compressed else (Image, image_pixels)
            self.create_subscription(kind, topic, partial(self._on_image, name, decode), qos)

    def teardown(self) -> None:
        """Let go of the policy."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def start(self) -> None:
        """Forget what came while inactive."""
        self._forget()

    def _forget(self) -> None:
        """Start an episode: nothing captured until now counts any more."""
        assert self._worker is not None
        self._cutoff.cut()
        self._assembler.reset()
        self._schedule.reset()
        self._worker.reset()
        self._troubles, self._planned, self._waiting = {}, {}, ""
        self.publish_status()

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._forget()
        return reset_answer(response, self._cutoff.seen_ns)

    def _on_instruction(self, message: String) -> None:
        try:
            self._instruction = checked_instruction(message.data)
            self._troubles.pop("instruction", None)
        except MoxinVlaError as error:
            self._count["instructions refused"] += 1
            kept = f" The former one stays: '{self._instruction}'." if self._instruction else ""
            self._complain("instruction", f"instruction refused: {error}{kept}")
        self.publish_status()

    def _on_joints(self, message: JointState) -> None:
        time_ns = time_to_ns(message.header.stamp)

        def put() -> None:
            self._assembler.put_joints(time_ns, message.name, message.position)
            self._joints_ns = time_ns

        self._take(_JOINTS, time_ns, put)

    def _on_image(self, camera: str, decode: Callable, message: Image | CompressedImage) -> None:
        time_ns = time_to_ns(message.header.stamp)
        self._take(
            camera, time_ns, lambda: self._assembler.put_image(camera, time_ns, decode(message))
        )

    def _take(self, stream: str, time_ns: int, put: Callable[[], None]) -> None:
        if not self.active or not self._cutoff.admits(time_ns, stream):
            return
        self._arrivals.note(stream)
        try:
            put()
        except MoxinVlaError as error:
            self._count["observations refused"] += 1
            self._complain("observation", f"observation refused: {error}")
            return
        self._plan_if_due()

    def _plan_if_due(self) -> None:
        if self._worker is None or self._worker.busy:
            return
        if not self._instruction:
            self.get_logger().info("no instruction yet: no plans", once=True)
            return
        observation = self._assembler.newest(self._instruction)
        self._waiting = self._assembler.reason
        if observation is None or not self._schedule.due(observation.time_ns):
            return
        if self._joints_ns < observation.time_ns:  # theirs is still on its way
            self._waiting = "no joint state as new as the newest images yet"
            return
        self._schedule.mark(observation.time_ns)
        self._look_at(observation)
        self._worker.submit(observation)

    def _look_at(self, observation: Observation) -> None:
        """Warn while the pose lies outside the training data: a sign of another convention."""
        self._outside = self._spec.outside(observation.proprio)
        if self._outside:
            self.get_logger().warning(
                f"proprio outside the training data: {listed(self._outside)}",
                throttle_duration_sec=5.0,
            )

    def _publish_results(self) -> None:
        """Publish what the worker has; it woke the executor."""
        if not self.active or self._worker is None:
            return
        for result in self._worker.take():
            self._publish(result)
            self.publish_status()
        self._plan_if_due()

    def _publish(self, result: Inference) -> None:
        self._planned = {
            "observation_time_ns": result.observation_time_ns,
            "inference_ms": f"{result.wall_ns / 1e6:.3f}",
        }
        if result.chunk is None:
            self._count["errors"] += 1
            error = result.error
            self._complain("policy", f"the policy failed: {type(error).__name__}: {error}")
            return
        self._troubles.pop("policy", None)
        self._troubles.pop("observation", None)
        self._count["chunks"] += 1
        self._inference_ms.add(result.wall_ns / 1e6)
        self._chunks_out.publish(chunk_message(result.chunk, self._embodiment.joint_names))

    def _complain(self, about: str, trouble: str) -> None:
        """Keep a trouble in the status until it is over, and log it."""
        self._troubles[about] = trouble
        self.get_logger().error(trouble, throttle_duration_sec=1.0)

    def measure(self) -> None:
        """Renew the rates of what arrives."""
        self._arrivals.measure()

    def describe(self) -> DiagnosticStatus:
        """Say what it does and what is missing."""
        age_s = (self.get_clock().now().nanoseconds - self._joints_ns) / NS_PER_S
        values = {
            "instruction": self._instruction,
            "policy": self._spec.name,
            "fingerprint": self._spec.fingerprint,
            **self._planned,
            "inference p50 ms": f"{self._inference_ms.percentile(50):.1f}",
            "inference p99 ms": f"{self._inference_ms.percentile(99):.1f}",
            "joint state age s": f"{age_s:.3f}" if self._joints_ns else "",
            "proprio outside the training data": listed(self._outside) if self._outside else "",
            "observations replaced": self._worker.replaced if self._worker else 0,
            **self._arrivals.rates,
            **self._count,
        }
        if self._troubles:
            return status_message("policy_node", ERROR, "; ".join(self._troubles.values()), values)
        if not self._instruction:
            return status_message("policy_node", WARN, "waiting for an instruction", values)
        if self._outside and not self._waiting:
            text = f"planning from a pose outside the training data: {listed(self._outside)}"
            return status_message("policy_node", WARN, text, values)
        level = WARN if self._waiting else OK
        return status_message("policy_node", level, self._waiting or "planning", values)


def _unpack(message: CompressedImage) -> Any:
    return decode_compressed(bytes(message.data))


def main() -> int:
    """Run policy_node."""
    return run_node(PolicyNode)


if __name__ == "__main__":
    sys.exit(main())
