"""policy_node: cameras, joint states and an instruction in; action chunks out.

The executor's thread takes messages, assembles observations and publishes; a worker thread runs
the policy, newest observation first. `Planner` says when a plan is due and which steps are
committed until it arrives.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from moxin_vla.core.clock import NS_PER_S, seconds_to_ns
from moxin_vla.core.embodiment import load_embodiment
from moxin_vla.core.errors import MoxinVlaError, listed
from moxin_vla.core.images import decode_compressed
from moxin_vla.core.messages import image_pixels, time_to_ns
from moxin_vla.core.types import ActionChunk, Observation, checked_instruction
from moxin_vla.observation.assembler import ObservationAssembler
from moxin_vla.policy.loading import load_policy
from moxin_vla.ros.conversions import chunk_message
from moxin_vla.ros.diagnostics import ERROR, OK, WARN, Arrivals, status_message
from moxin_vla.ros.lifecycle import ManagedNode, run_node
from moxin_vla.ros.parameters import parameter, read_parameters
from moxin_vla.ros.qos import COMMAND, COMMAND_PUBLISHER, sensor_subscription
from moxin_vla.ros.resets import reset_answer
from moxin_vla.runtime.cutoff import Cutoff
from moxin_vla.runtime.delay import NO_DELAY, check_feasible, parse_delay
from moxin_vla.runtime.joiners import DEFAULT_JOINER, JOINERS, make_joiner
from moxin_vla.runtime.latency import StageLatencies
from moxin_vla.runtime.planner import Planner
from moxin_vla.runtime.worker import Inference, InferenceWorker

_JOINTS = "joint states"
# capture age: from the stamp until the worker gets it; total: from the stamp until it is published
_STAGES = ("capture age", "decode", "inference", "publish", "total")


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
    joiner: str = parameter(
        DEFAULT_JOINER, f"how a new chunk joins the plan: {', '.join(JOINERS)}"
    )
    delay: str = parameter(
        NO_DELAY.name,
        "lossless only: injected inference delay: control steps, spiky:USUAL:SPIKE:EVERY or "
        "trace:FILE",
    )
    extra_delay_s: float = parameter(
        0.0,
        "delay that no stamp shows (camera readout, motor lag), planned for, in [s]",
        bounds=(0.0, 10.0),
    )
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
        self._planner, self._most_steps = self._make_planner(values)
        self._lockstep = values.lossless
        self._landing: tuple[ActionChunk | None] | None = None  # published, not visible yet
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
        self._latencies, self._arrivals = StageLatencies(_STAGES), Arrivals()
        self._connect(cameras, sensor_subscription(values.lossless))

    def _make_planner(self, values: PolicyParameters) -> tuple[Planner, int]:
        """Return the planner and the largest delay that its plans bridge, in control steps."""
        s, step_ns = values.execution_horizon, self._embodiment.step_ns
        joiner = make_joiner(values.joiner, s, [self._embodiment.gripper_index])
        delays = parse_delay(values.delay, step_ns) if values.lossless else None
        if delays is not None and not joiner.waits:
            check_feasible(delays, s, self._spec.horizon)
        extra_ns = seconds_to_ns(values.extra_delay_s)
        planner = Planner(joiner, s, self._embodiment.dof, step_ns, delays, extra_ns)
        most = self._spec.horizon if joiner.waits else min(s, self._spec.horizon - s)
        return planner, most

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
        self._planner.reset()
        self._landing = None
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
            self._land_visible()

        self._take(_JOINTS, time_ns, put)

    def _on_image(self, camera: str, decode: Callable, message: Image | CompressedImage) -> None:
        time_ns = time_to_ns(message.header.stamp)

        def put() -> None:
            before_ns = time.perf_counter_ns()
            pixels = decode(message)
            self._latencies.add("decode", time.perf_counter_ns() - before_ns)
            self._assembler.put_image(camera, time_ns, pixels)

        self._take(camera, time_ns, put)

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
        clock_ns = None if self._lockstep else self._now_ns()
        observation = self._assembler.newest(self._instruction, clock_ns)
        self._waiting = self._assembler.reason
        if observation is None or not self._planner.requests.due(observation.time_ns):
            return
        if self._joints_ns < observation.time_ns:  # theirs is still on its way
            self._waiting = "no joint state as new as the newest images yet"
            return
        self._look_at(observation)
        self._latencies.add("capture age", self._now_ns() - observation.time_ns)
        self._landing = None
        self._worker.submit(self._planner.ask(observation))

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
            self._landing = (self._publish(result),)
            self._land_visible()
            self.publish_status()
        self._plan_if_due()

    def _land_visible(self) -> None:
        """Commit what was published to the planner's own timeline, when it becomes visible.

        With injected delay, lockstep included, that is a moment of simulated time; else now.
        """
        visible_ns = self._planner.requests.visible_ns
        if self._landing is None or (visible_ns is not None and self._joints_ns < visible_ns):
            return
        self._planner.land(self._landing[0], self._now_ns() if visible_ns is None else visible_ns)
        self._landing = None

    def _now_ns(self) -> int:
        return self.get_clock().now().nanoseconds

    def _publish(self, result: Inference) -> ActionChunk | None:
        """Publish a plan and return it; None if there is none."""
        self._planned = {
            "observation_time_ns": result.observation_time_ns,
            "inference_ms": f"{result.wall_ns / 1e6:.3f}",
        }
        if result.chunk is None:
            self._count["errors"] += 1
            error = result.error
            self._complain("policy", f"the policy failed: {type(error).__name__}: {error}")
            return None
        self._troubles.pop("policy", None)
        self._troubles.pop("observation", None)
        self._count["chunks"] += 1
        plan, before_ns = self._planner.answer(result.chunk), time.perf_counter_ns()
        self._chunks_out.publish(chunk_message(plan, self._embodiment.joint_names))
        self._latencies.add("inference", result.wall_ns)
        self._latencies.add("publish", time.perf_counter_ns() - before_ns)
        self._latencies.add("total", self._now_ns() - result.observation_time_ns)
        return plan

    def _complain(self, about: str, trouble: str) -> None:
        """Keep a trouble in the status until it is over, and log it."""
        self._troubles[about] = trouble
        self.get_logger().error(trouble, throttle_duration_sec=1.0)

    def measure(self) -> None:
        """Renew the rates of what arrives."""
        self._arrivals.measure()

    def describe(self) -> DiagnosticStatus:
        """Say what it does and what is missing."""
        age_s = (self._now_ns() - self._joints_ns) / NS_PER_S
        values = {
            "instruction": self._instruction,
            "policy": self._spec.name,
            "fingerprint": self._spec.fingerprint,
            **self._planned,
            **self._latencies.percentiles(),
            "delay planned for, steps": self._planner.delay_steps,
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
        if self._planner.delay_steps > self._most_steps and not self._waiting:
            text = (
                f"plans take {self._planner.delay_steps} control steps; "
                f"the arm is without a plan beyond {self._most_steps}"
            )
            return status_message("policy_node", WARN, text, values)
        level = WARN if self._waiting else OK
        return status_message("policy_node", level, self._waiting or "planning", values)


def _unpack(message: CompressedImage) -> Any:
    return decode_compressed(bytes(message.data))


def main() -> int:
    """Run policy_node."""
    return run_node(PolicyNode, images=True)


if __name__ == "__main__":
    sys.exit(main())
