"""sim_node: the simulated robot on the topics of a real one.

realtime: the world runs on a steady timer and does not wait. lockstep: it publishes the state of tick T, waits for the command stamped T,
advances one control period, and so on; time stands still while it waits, so a run over DDS is deterministic. Simulated time only ever
goes forward, across resets too. One thread owns the world, because it owns the OpenGL context.
"""

import sys
import time
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rosgraph_msgs.msg import Clock as ClockMessage
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from moxin_vla.core.clock import NS_PER_S
from moxin_vla.core.embodiment import load_embodiment
from moxin_vla.core.errors import MoxinVlaError, SimulationError
from moxin_vla.core.protocols import EpisodeSpec
from moxin_vla.ros.conversions import (
    clock_message,
    image_message,
    joint_state_message,
    message_to_command,
    ns_to_time,
)
from moxin_vla.ros.diagnostics import ERROR, OK, WARN, diagnostics_message, status_message
from moxin_vla.ros.lifecycle import run_node
from moxin_vla.ros.qos import COMMAND, LATCHED, SENSOR_PUBLISHER

_RESEND_S = 1.0  # lockstep: the state goes out again if no command came; a late subscriber may have missed it
_FIRST_TICK_NS = NS_PER_S  # simulated time starts at 1 s: a stamp of zero means "not set" in ROS


class SimNode(Node):
    """Publishes state and images, takes commands, judges episodes."""

    def __init__(self) -> None:
        super().__init__("sim_node")
        from moxin_sim import Tabletop

        self._declare()
        self._embodiment = load_embodiment(self._text("embodiment"))
        self._lockstep = self._text("mode") == "lockstep"
        if self._text("mode") not in ("lockstep", "realtime"):
            raise SimulationError(
                f"Unknown mode '{self._text('mode')}'. Choose from: lockstep, realtime"
            )
        self._world = Tabletop(self._embodiment)
        self._tick_ns, self._paused, self._episode = _FIRST_TICK_NS, True, 0
        self._target = self._measured_target = None
        self._ignored, self._rate = 0, float("nan")
        self._publish_all()
        self._serve()
        self._reset_world()

    def _declare(self) -> None:
        def declare(name: str, default: Any, text: str) -> None:
            self.declare_parameter(name, default, ParameterDescriptor(description=text))

        declare("embodiment", "", "embodiment file")
        declare("mode", "realtime", "realtime or lockstep")
        declare("speed", 1.0, "realtime: simulated seconds per second")
        declare("image_period_steps", 1, "control steps between camera images")
        declare(
            "overview_period_steps", 2, "control steps between images of ~/overview; 0 for none"
        )
        declare("seed", 0, "scene of the next reset")
        declare("family", "pick", "task family of the next reset")
        declare(
            "instruction", "", "what the next episode is judged by; empty: drawn from the seed"
        )

    def _text(self, name: str) -> str:
        return self.get_parameter(name).get_parameter_value().string_value

    def _int(self, name: str) -> int:
        return self.get_parameter(name).get_parameter_value().integer_value

    def _publish_all(self) -> None:
        names = self._embodiment.cameras
        self._clock_out = self.create_publisher(ClockMessage, "/clock", COMMAND)
        self._joints_out = self.create_publisher(
            JointState, self._embodiment.joint_states_topic, SENSOR_PUBLISHER
        )
        self._images_out = {
            c.name: self.create_publisher(Image, c.topic, SENSOR_PUBLISHER) for c in names
        }
        self._infos_out = {
            c.name: self.create_publisher(
                CameraInfo, c.topic.rsplit("/", 1)[0] + "/camera_info", SENSOR_PUBLISHER
            )
            for c in names
        }
        self._overview_out = self.create_publisher(Image, "~/overview", SENSOR_PUBLISHER)
        self._episode_out = self.create_publisher(DiagnosticStatus, "~/episode", LATCHED)
        self._diagnostics_out = self.create_publisher(DiagnosticArray, "/diagnostics", COMMAND)

    def _serve(self) -> None:
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_subscription(
            JointTrajectory, "/control_node/command", self._on_command, COMMAND
        )
        self.create_service(Trigger, "~/reset", self._on_reset)
        self.create_service(SetBool, "~/pause", self._on_pause)
        period_s = self._embodiment.step_ns / NS_PER_S
        if self._lockstep:
            self.create_timer(_RESEND_S, self._resend, clock=steady)
        else:
            speed = self.get_parameter("speed").get_parameter_value().double_value
            self.create_timer(period_s / speed, self._run, clock=steady)
        self.create_timer(1.0, self._diagnose, clock=steady)
        self._last_sent, self._last_ran = time.monotonic(), time.monotonic()

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            self._reset_world()
            response.success, response.message = True, self._spec.instruction
        except MoxinVlaError as error:
            response.success, response.message = False, str(error)
        return response

    def _reset_world(self) -> None:
        from moxin_sim import sample_episode

        spec = sample_episode(self._text("family"), self._int("seed"))
        if instruction := self._text("instruction"):
            spec = EpisodeSpec(spec.seed, spec.family, instruction)
        self._world.reset(spec)
        self._spec, self._paused, self._target = spec, True, None
        self._episode += 1
        self._tick_ns += self._embodiment.step_ns
        self._announce()

    def _on_pause(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._paused = request.data
        response.success = True
        if not self._paused:
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
        now = time.monotonic()
        self._rate, self._last_ran = (
            self._embodiment.step_ns / NS_PER_S / max(1e-9, now - self._last_ran),
            now,
        )
        if self._running:
            self._advance(self._world.proprio() if self._target is None else self._target)

    def _resend(self) -> None:
        if self._running and time.monotonic() - self._last_sent >= _RESEND_S:
            self._publish_state()

    def _advance(self, positions: np.ndarray) -> None:
        self._world.step(positions)
        self._tick_ns += self._embodiment.step_ns
        self._announce()
        self._publish_state()

    def _publish_state(self) -> None:
        self._last_sent = time.monotonic()
        stamp = self._tick_ns
        self._clock_out.publish(clock_message(stamp))
        self._joints_out.publish(
            joint_state_message(stamp, self._embodiment.joint_names, self._world.proprio())
        )
        step = self._world.status().step
        if step % self._int("image_period_steps") == 0:
            for name, pixels in self._world.images().items():
                self._images_out[name].publish(
                    image_message(stamp, f"{name}_optical_frame", pixels)
                )
                self._infos_out[name].publish(self._camera_info(name, pixels.shape))
        period = self._int("overview_period_steps")
        if period and step % period == 0 and self._overview_out.get_subscription_count():
            frame = image_message(stamp, "overview_optical_frame", self._world.video_frame())
            self._overview_out.publish(frame)

    def _camera_info(self, name: str, shape: tuple[int, ...]) -> CameraInfo:
        height, width = shape[:2]
        focal = height / 2 / np.tan(np.deg2rad(self._world.camera_fovy_deg(name)) / 2)
        message = CameraInfo(height=height, width=width, distortion_model="plumb_bob", d=[0.0] * 5)
        message.header.stamp, message.header.frame_id = (
            ns_to_time(self._tick_ns),
            f"{name}_optical_frame",
        )
        message.k = [focal, 0.0, width / 2, 0.0, focal, height / 2, 0.0, 0.0, 1.0]
        message.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
        message.p = [focal, 0.0, width / 2, 0.0, 0.0, focal, height / 2, 0.0, 0.0, 0.0, 1.0, 0.0]
        return message

    def _announce(self) -> None:
        status = self._world.status()
        level = ERROR if status.failure else OK
        self._episode_out.publish(
            status_message(
                "sim_node: episode",
                level,
                status.failure or ("success" if status.success else "running"),
                {
                    "episode": self._episode,
                    "seed": self._spec.seed,
                    "family": self._spec.family,
                    "instruction": self._spec.instruction,
                    "time_ns": self._tick_ns,
                    "step": status.step,
                    "horizon": status.horizon,
                    "success": status.success,
                    "failure": status.failure,
                    "done": status.done,
                },
            )
        )

    def _diagnose(self) -> None:
        slow = not self._lockstep and self._rate < 0.9
        values = {
            "mode": "lockstep" if self._lockstep else "realtime",
            "paused": self._paused,
            "time_ns": self._tick_ns,
            "commands ignored": self._ignored,
            "rate over control rate": f"{self._rate:.2f}",
        }
        text = "slower than real time" if slow else "running"
        status = status_message("sim_node", WARN if slow else OK, text, values)
        self._diagnostics_out.publish(diagnostics_message(ns_to_time(self._tick_ns), status))


def main() -> int:
    """Run sim_node."""
    return run_node(SimNode)


if __name__ == "__main__":
    sys.exit(main())
