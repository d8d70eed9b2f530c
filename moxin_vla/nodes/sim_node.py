"""sim_node: the simulated robot on the topics of a real one.

realtime: the world runs on a steady timer and does not wait. lockstep: it publishes the state of
tick T, waits for the command stamped T, advances one control period, and so on; time stands still
while it waits, so a run over DDS is deterministic. With `expert` it also says, before each state,
what the scripted expert would command now: teleop_node's autopilot drives with that. Simulated
time only ever goes forward, across resets too. One thread owns the world, because it owns the
OpenGL context.
"""

import sys
import time
from dataclasses import dataclass

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from numpy.typing import NDArray
from rclpy.node import Node
from rosgraph_msgs.msg import Clock as ClockMessage
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from moxin_vla.core.clock import NS_PER_S
from moxin_vla.core.embodiment import load_embodiment
from moxin_vla.core.errors import MoxinVlaError, SimulationError, listed
from moxin_vla.core.messages import message_to_command
from moxin_vla.core.protocols import EpisodeSpec
from moxin_vla.ros.conversions import (
    camera_info_message,
    clock_message,
    image_message,
    joint_state_message,
    ns_to_time,
    target_message,
)
from moxin_vla.ros.diagnostics import OK, WARN, Recent, diagnostics_message, status_message
from moxin_vla.ros.episode_status import EpisodeReport, report_to_message
from moxin_vla.ros.lifecycle import DIAGNOSTICS_PERIOD_S, STEADY, run_node
from moxin_vla.ros.parameters import declare_parameters, parameter, read_parameters
from moxin_vla.ros.qos import (
    COMMAND,
    COMMAND_PUBLISHER,
    IMAGE_PUBLISHER,
    JOINTS_PUBLISHER,
    LATCHED_PUBLISHER,
)

MODES = ("realtime", "lockstep")
_RESEND_S = 0.5  # lockstep: without a command the state goes out again, for late subscribers
_FIRST_TICK_NS = NS_PER_S  # a stamp of zero means "not set" in ROS
# Which step of the expert's plan it would command: the arm lags its targets by about one step.
# Over 30 scenes a family, step 1 solves them all, and places in 33 ticks where step 0 takes 80.
_EXPERT_STEP = 1
_SLOW = 0.9  # realtime factor below which diagnostics warn


@dataclass(frozen=True, slots=True)
class SimParameters:
    """Parameters of sim_node; seed, family and instruction take effect at the next ~/reset."""

    embodiment: str = parameter("", "embodiment file")
    mode: str = parameter("realtime", "realtime or lockstep")
    speed: float = parameter(1.0, "realtime: simulated seconds per second", bounds=(0.01, 100.0))
    image_period_steps: int = parameter(1, "control steps between images", bounds=(1, 1000))
    overview_period_steps: int = parameter(
        2, "control steps between images of ~/overview; 0 for none", bounds=(0, 1000)
    )
    expert: bool = parameter(False, "publish the scripted expert's action on ~/expert_action")
    horizon_steps: int = parameter(
        0, "control steps of an episode; 0: the task family's", bounds=(0, 1_000_000)
    )
    seed: int = parameter(0, "scene", dynamic=True)
    family: str = parameter("pick", "task family", dynamic=True)
    instruction: str = parameter(
        "", "what the episode is judged by; empty: drawn from the seed", dynamic=True
    )


class SimNode(Node):
    """Publishes state and images, takes commands, judges episodes.

    Raises:
        MoxinVlaError: A parameter, the embodiment or the first episode is refused.
    """

    def __init__(self) -> None:
        super().__init__("sim_node")
        from moxin_sim import Expert, Tabletop

        declare_parameters(self, SimParameters)
        self._values = read_parameters(self, SimParameters)
        if self._values.mode not in MODES:
            raise SimulationError(
                f"Unknown mode '{self._values.mode}'. Choose from: {listed(MODES)}"
            )
        self._lockstep = self._values.mode == "lockstep"
        self._embodiment = load_embodiment(self._values.embodiment)
        self._world = Tabletop(self._embodiment, horizon=self._values.horizon_steps or None)
        self._expert = Expert(self._world, _EXPERT_STEP + 1) if self._values.expert else None
        self._tick_ns, self._published_ns, self._episode = _FIRST_TICK_NS, 0, 0
        self._ignored, self._last_ran_s, self._last_sent_s = 0, None, 0.0
        self._factors = Recent(50)
        self._publish_all()
        self._serve()
        self._reset_world()

    def _publish_all(self) -> None:
        self._clock_out = self.create_publisher(ClockMessage, "/clock", COMMAND)
        self._joints_out = self.create_publisher(
            JointState, self._embodiment.joint_states_topic, JOINTS_PUBLISHER
        )
        self._cameras_out = {
            camera.name: (
                self.create_publisher(Image, camera.topic, IMAGE_PUBLISHER),
                self.create_publisher(CameraInfo, _info_topic(camera.topic), IMAGE_PUBLISHER),
            )
            for camera in self._embodiment.cameras
        }
        self._expert_out = self.create_publisher(
            JointTrajectory, "~/expert_action", COMMAND_PUBLISHER
        )
        self._overview_out = self.create_publisher(Image, "~/overview", IMAGE_PUBLISHER)
        self._episode_out = self.create_publisher(DiagnosticStatus, "~/episode", LATCHED_PUBLISHER)
        self._diagnostics_out = self.create_publisher(
            DiagnosticArray, "/diagnostics", COMMAND_PUBLISHER
        )

    def _serve(self) -> None:
        self.create_subscription(
            JointTrajectory, "control_node/command", self._on_command, COMMAND
        )
        self.create_service(Trigger, "~/reset", self._on_reset)
        self.create_service(SetBool, "~/pause", self._on_pause)
        if self._lockstep:
            self.create_timer(_RESEND_S, self._resend, clock=STEADY)
        else:
            period_s = self._embodiment.step_ns / NS_PER_S / self._values.speed
            self.create_timer(period_s, self._run, clock=STEADY)
        self.create_timer(DIAGNOSTICS_PERIOD_S, self._diagnose, clock=STEADY)

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            self._reset_world()
            response.success, response.message = True, self._spec.instruction
        except MoxinVlaError as error:
            response.success, response.message = False, str(error)
        return response

    def _reset_world(self) -> None:
        from moxin_sim import sample_episode

        values = read_parameters(self, SimParameters)
        spec = sample_episode(values.family, values.seed)
        if values.instruction:
            spec = EpisodeSpec(spec.seed, spec.family, values.instruction)
        self._world.reset(spec)
        self._spec, self._paused = spec, True
        self._target = self._world.proprio()  # realtime: stand still until a command comes
        self._episode += 1
        self._tick_ns += self._embodiment.step_ns
        self._announce()

    def _on_pause(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._paused, self._last_ran_s = request.data, None
        response.success = True
        if self._running:
            self._publish_state()
        return response

    def _on_command(self, message: JointTrajectory) -> None:
        try:
            tick_ns, positions = message_to_command(message, self._embodiment.joint_names)
        except MoxinVlaError as error:
            self.get_logger().error(f"command refused: {error}", throttle_duration_sec=1.0)
            return
        if not np.all(np.isfinite(positions)):
            self._ignored += 1
        elif not self._lockstep:
            self._target = positions
        elif tick_ns == self._tick_ns and self._running:
            self._advance(positions)
        else:
            self._ignored += 1

    @property
    def _running(self) -> bool:
        return not self._paused and not self._world.status().done

    def _run(self) -> None:
        """Realtime: one period per timer call; a late call is not made up for."""
        if not self._running:
            return
        now_s = time.monotonic()
        if self._last_ran_s is not None:
            step_s = self._embodiment.step_ns / NS_PER_S
            self._factors.add(step_s / max(1e-9, now_s - self._last_ran_s))
        self._last_ran_s = now_s
        self._advance(self._target)

    def _resend(self) -> None:
        if self._running and time.monotonic() - self._last_sent_s >= _RESEND_S:
            self._publish_state()

    def _advance(self, positions: NDArray[np.float64]) -> None:
        self._world.step(positions)
        self._tick_ns += self._embodiment.step_ns
        if self._running:
            self._publish_state()
        self._announce()

    def _publish_state(self) -> None:
        stamp, step = self._tick_ns, self._world.status().step
        self._last_sent_s, self._published_ns = time.monotonic(), stamp
        self._clock_out.publish(clock_message(stamp))
        if self._expert is not None:
            action = self._expert.chunk()[_EXPERT_STEP]
            self._expert_out.publish(
                target_message(
                    stamp, self._embodiment.joint_names, action, frame_id=str(self._episode)
                )
            )
        self._joints_out.publish(
            joint_state_message(stamp, self._embodiment.joint_names, self._world.proprio())
        )
        if step % self._values.image_period_steps == 0:
            for name, pixels in self._world.images().items():
                self._publish_image(name, stamp, pixels)
        period = self._values.overview_period_steps
        if period and step % period == 0 and self._overview_out.get_subscription_count():
            frame = self._world.video_frame()
            self._overview_out.publish(image_message(stamp, "overview_optical_frame", frame))

    def _publish_image(self, name: str, stamp: int, pixels: NDArray[np.uint8]) -> None:
        image_out, info_out = self._cameras_out[name]
        frame, fovy_deg = f"{name}_optical_frame", self._world.camera_fovy_deg(name)
        image_out.publish(image_message(stamp, frame, pixels))
        info_out.publish(camera_info_message(stamp, frame, pixels.shape, fovy_deg))

    def _announce(self) -> None:
        report = EpisodeReport(
            self._episode, self._spec, self._world.status(), self._tick_ns, self._published_ns
        )
        self._episode_out.publish(report_to_message(report))

    def _diagnose(self) -> None:
        factor = self._factors.percentile(50)
        slow = not self._lockstep and self._running and factor < _SLOW * self._values.speed
        values = {
            "mode": self._values.mode,
            "paused": self._paused,
            "time_ns": self._tick_ns,
            "commands ignored": self._ignored,
            "real-time factor": f"{factor:.2f}",
        }
        text = "slower than asked" if slow else ("running" if self._running else "standing still")
        status = status_message("sim_node", WARN if slow else OK, text, values)
        self._diagnostics_out.publish(diagnostics_message(ns_to_time(self._tick_ns), status))

    def destroy_node(self) -> None:
        """Free the renderer with the node."""
        self._world.close()
        super().destroy_node()


def _info_topic(image_topic: str) -> str:
    return image_topic.rsplit("/", 1)[0] + "/camera_info"


def main() -> int:
    """Run sim_node."""
    return run_node(SimNode, images=True)


if __name__ == "__main__":
    sys.exit(main())
