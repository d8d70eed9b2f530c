"""teleop_node: what an operator does with a device in; joint targets for control_node out.

realtime: a steady timer ticks at the control rate, and something is published only while the
operator has control; giving it back is one message without points. lockstep: each joint state is
a tick, once the device has what it needs for it, and every tick gets a word, so that control_node
can wait for it: a target, or no points.
"""

import sys
import time
from collections import deque
from dataclasses import dataclass

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from numpy.typing import NDArray
from sensor_msgs.msg import JointState
from sensor_msgs.msg import Joy as JoyMessage
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from moxin_vla.core.clock import NS_PER_S, SteadyClock
from moxin_vla.core.embodiment import Embodiment, load_embodiment
from moxin_vla.core.errors import DependencyError, MoxinVlaError, listed
from moxin_vla.core.joints import JointLookup
from moxin_vla.core.messages import message_to_command, time_to_ns
from moxin_vla.ros.conversions import target_message
from moxin_vla.ros.diagnostics import (
    ERROR,
    OK,
    WARN,
    Arrivals,
    Timings,
    status_message,
    status_values,
)
from moxin_vla.ros.lifecycle import STEADY, ManagedNode, run_node
from moxin_vla.ros.parameters import parameter, read_parameters
from moxin_vla.ros.qos import COMMAND, COMMAND_PUBLISHER, LATCHED, sensor_subscription
from moxin_vla.ros.recorder_calls import RecorderCalls
from moxin_vla.teleop.autopilot import Autopilot
from moxin_vla.teleop.base import Mode, OperatorEvent, OperatorInput, TeleopDevice, TeleopError
from moxin_vla.teleop.devices import DEVICES, joy_topic, make_device
from moxin_vla.teleop.drive import Arm, Drive, DriveStep
from moxin_vla.teleop.end_effector import EndEffectorMapping
from moxin_vla.teleop.joy import Joy
from moxin_vla.teleop.keyboard import EventKeys
from moxin_vla.teleop.mapping import FollowMapping, FullSpeed, JointMapping, Mapping
from moxin_vla.teleop.options import read_options
from moxin_vla.teleop.terminal import Terminal
from moxin_vla.teleop.view import TeleopView

_POLL_S = 0.1
_WAIT_S = 2.0  # lockstep: longest wait for what the device needs


@dataclass(frozen=True, slots=True)
class TeleopParameters:
    """Parameters of teleop_node."""

    embodiment: str = parameter("", "embodiment file")
    device: str = parameter("keyboard", f"what the operator drives with: {', '.join(DEVICES)}")
    options: str = parameter("", "options of the device as a YAML mapping")
    event_keys: bool = parameter(
        False, "read keys such as take, give back and start from the terminal beside the device"
    )
    mode: str = parameter("", "joint or ee (end effector); empty: the device's usual one")
    speed: float = parameter(0.5, "share of full speed to begin with", bounds=(0.05, 1.0))
    give_back_after_s: float = parameter(
        30.0, "give control back when the dead-man was released so long; 0 never", (0.0, 3600.0)
    )
    joint_rad_s: float = parameter(1.5, "full speed of the joints, in [rad/s]", (0.01, 100.0))
    gripper_rad_s: float = parameter(3.0, "full speed of the gripper, in [rad/s]", (0.01, 100.0))
    linear_m_s: float = parameter(0.25, "full speed of the end effector, in [m/s]", (0.001, 10.0))
    angular_rad_s: float = parameter(1.5, "its full turning speed, in [rad/s]", (0.01, 100.0))
    align_rad_s: float = parameter(
        0.5, "joint speed on the way to a leader that points elsewhere, in [rad/s]", (0.01, 10.0)
    )
    robot_model: str = parameter("", "MJCF or URDF for the ee mode; empty: the SO-101's")
    end_effector: str = parameter("", "its site or body; empty: the SO-101's")
    lockstep: bool = parameter(False, "tick on joint states, and say something at every one")


class TeleopNode(ManagedNode):
    """One operator, one device, one robot."""

    def __init__(self) -> None:
        super().__init__("teleop_node", TeleopParameters)
        self._device: TeleopDevice | None = None
        self._event_keys: EventKeys | None = None
        self._events: deque[OperatorEvent] = deque(maxlen=16)  # for who owns the node

    def setup(self) -> None:
        """Load the robot, open the device, and find out what it can move."""
        values = read_parameters(self, TeleopParameters)
        self._embodiment = load_embodiment(values.embodiment)
        self._device_name, self._lockstep = values.device, values.lockstep
        self._device = make_device(values.device, self._embodiment, read_options(values.options))
        self._drive = make_drive(self._embodiment, self._device, values)
        self._device.open()
        if values.event_keys and values.device != "keyboard":
            self._event_keys = EventKeys(Terminal())
            self._event_keys.open()
        self._steady, self._lookup = SteadyClock(), JointLookup(self._embodiment.joint_names)
        self._arrivals, self._timings = Arrivals(), Timings("tick")
        self._refused, self._incomplete = 0, 0
        self._connect()

    def _connect(self) -> None:
        self._out = self.create_lifecycle_publisher(
            JointTrajectory, "~/command", COMMAND_PUBLISHER
        )
        topic, qos = self._embodiment.joint_states_topic, sensor_subscription(self._lockstep)
        self.create_subscription(JointState, topic, self._on_joints, qos)
        self.create_subscription(DiagnosticStatus, "control_node/status", self._on_status, LATCHED)
        self.create_subscription(JointTrajectory, "control_node/command", self._on_sent, COMMAND)
        self.create_service(Trigger, "~/take", self._on_take)
        self.create_service(Trigger, "~/release", self._on_release)
        self._recorder = RecorderCalls(self)
        if isinstance(self._device, Joy):
            topic = joy_topic(self._device_name)
            self.create_subscription(JoyMessage, topic, self._on_joy, sensor_subscription(False))
        if isinstance(self._device, Autopilot):
            self.create_subscription(
                JointTrajectory, "sim_node/expert_action", self._on_expert, COMMAND
            )
            self.create_subscription(
                JointTrajectory, "control_node/action", self._on_requested, COMMAND
            )

    def teardown(self) -> None:
        """Close the device, and leave the terminal as it was."""
        for opened in (self._device, self._event_keys):
            if opened is not None:
                opened.close()
        self._device = self._event_keys = None

    def destroy_node(self) -> None:
        """Give control back and leave the terminal as it was, however the node ends."""
        if self.active and self.context.ok():
            self.halt()
        self.active = False
        self.teardown()
        super().destroy_node()

    def start(self) -> None:
        """Watch from now on."""
        self._drive.reset()
        self._proprio: NDArray[np.float64] | None = None  # (D,)
        self._sent: NDArray[np.float64] | None = None  # (D,), control_node's last command
        self._control: dict[str, str] = {}
        self._asked: list[OperatorEvent] = []  # by service, for the next tick
        self._tick_ns, self._done_ns, self._waiting_since_s = -1, -1, 0.0
        self._word: JointTrajectory | None = None  # lockstep: of the last tick
        self._trouble, self._held = "", False
        if self._lockstep:
            self._ticker = self.create_timer(_POLL_S, self._give_up_waiting, clock=STEADY)
        else:
            period_s = self._embodiment.step_ns / NS_PER_S
            self._ticker = self.create_timer(period_s, self._tick_realtime, clock=STEADY)

    def halt(self) -> None:
        """Give control back."""
        self.destroy_timer(self._ticker)
        if self._drive.give_back().gave_back:
            self._say(None, self.get_clock().now().nanoseconds)

    def _on_joints(self, message: JointState) -> None:
        if not self.active:
            return
        self._arrivals.note("joint states")
        try:
            self._proprio = self._lookup.proprio(message.name, message.position)
        except MoxinVlaError as error:
            self._refuse(f"joint state refused: {error}")
            return
        self._tick_ns = time_to_ns(message.header.stamp)
        if self._lockstep and self._tick_ns == self._done_ns and self._word is not None:
            self._out.publish(self._word)  # control_node did not get it
        elif self._lockstep:
            self._waiting_since_s = time.monotonic()
            self._tick_lockstep()

    def _on_status(self, message: DiagnosticStatus) -> None:
        self._control = status_values(message)

    def _on_sent(self, message: JointTrajectory) -> None:
        self._sent = self._positions(message)

    def _on_joy(self, message: JoyMessage) -> None:
        if self.active and isinstance(self._device, Joy):
            self._arrivals.note("joy")
            self._device.put(message.axes, message.buttons, self._steady.now_ns())

    def _on_expert(self, message: JointTrajectory) -> None:
        if not self.active or not isinstance(self._device, Autopilot):
            return
        self._arrivals.note("expert actions")
        action, tick_ns = self._positions(message), time_to_ns(message.header.stamp)
        if action is None:
            return
        if self._device.put_expert(tick_ns, action, message.header.frame_id):
            self._drive.reset()
        self._tick_lockstep()

    def _on_requested(self, message: JointTrajectory) -> None:
        if not self.active or not isinstance(self._device, Autopilot):
            return
        action = self._positions(message) if message.points else None
        tick_ns = time_to_ns(message.header.stamp)
        self._device.put_requested(tick_ns, message.header.frame_id, action)
        self._tick_lockstep()

    def _positions(self, message: JointTrajectory) -> NDArray[np.float64] | None:
        """Return a message's positions (D,); None if it is not one of this robot."""
        try:
            _, positions = message_to_command(message, self._embodiment.joint_names)
        except MoxinVlaError as error:
            self._refuse(f"message refused: {error}")
            return None
        return positions if np.all(np.isfinite(positions)) else None

    def _on_take(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return self._ask(OperatorEvent.TAKE, response)

    def _on_release(
        self, request: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        return self._ask(OperatorEvent.GIVE_BACK, response)

    def _ask(self, event: OperatorEvent, response: Trigger.Response) -> Trigger.Response:
        """Note a wish for the next tick."""
        response.success = self.active
        response.message = event.value if self.active else "the node is not active"
        if self.active:
            self._asked.append(event)
        return response

    def _tick_realtime(self) -> None:
        now_ns = self.get_clock().now().nanoseconds
        step = self._tick(now_ns if isinstance(self._device, Autopilot) else self._steady.now_ns())
        if step is not None and (step.target is not None or step.gave_back):
            self._say(step.target, now_ns)
        self.publish_status()

    def _tick_lockstep(self, complete: bool = False) -> None:
        """Say the word for the newest joint state, once the device is ready for it."""
        device = self._device
        if not self._lockstep or device is None or self._tick_ns <= self._done_ns:
            return
        if not (complete or device.ready(self._tick_ns)):
            return
        by_tick = isinstance(device, Autopilot)
        step = self._tick(self._tick_ns if by_tick else self._steady.now_ns())
        self._done_ns = self._tick_ns
        self._word = self._say(None if step is None else step.target, self._tick_ns)
        self.publish_status()

    def _give_up_waiting(self) -> None:
        """Go on without what the device needs, rather than never."""
        waiting = self._tick_ns > self._done_ns
        if waiting and time.monotonic() - self._waiting_since_s > _WAIT_S:
            self._incomplete += 1
            self.get_logger().warning(f"the device was not ready within {_WAIT_S:g} s")
            self._tick_lockstep(complete=True)

    def _tick(self, now_ns: int) -> DriveStep | None:
        """Ask the device and go on by a tick; None while the device fails: then nothing is said,
        and control_node ends what lasts.
        """
        self._timings.start()
        try:
            wanted = self._poll(now_ns)
        except TeleopError as error:
            self._trouble = str(error)
            self.get_logger().error(self._trouble, throttle_duration_sec=1.0)
            return None
        self._trouble, self._held = "", wanted.held
        for event in wanted.events:
            self._recorder.forward(event)
            self._events.append(event)
            if event is OperatorEvent.QUIT:
                raise KeyboardInterrupt  # Ctrl-C, of a terminal that sends it as a key
        operated = self._control.get("driver") == "operator"
        step = self._drive.update(wanted, Arm(self._proprio, self._sent, operated))
        self._timings.end()
        return step

    def _poll(self, now_ns: int) -> OperatorInput:
        """Return what the device says, with the events of keys and services."""
        assert self._device is not None
        wanted = self._device.poll(self._drive.mode, now_ns)
        asked, self._asked = tuple(self._asked), []
        if self._event_keys is not None:
            asked += self._event_keys.poll(self._drive.mode, self._steady.now_ns()).events
        return wanted.with_events(asked)

    def _say(self, target: NDArray[np.float64] | None, time_ns: int) -> JointTrajectory:
        message = target_message(time_ns, self._embodiment.joint_names, target)
        self._out.publish(message)
        return message

    def _refuse(self, reason: str) -> None:
        self._refused += 1
        self.get_logger().error(reason, throttle_duration_sec=1.0)

    def take_events(self) -> tuple[OperatorEvent, ...]:
        """Return the last events, once."""
        events = tuple(self._events)
        self._events.clear()
        return events

    def measure(self) -> None:
        """Renew the rates of what arrives."""
        self._arrivals.measure()

    def view(self) -> TeleopView:
        """Return what a screen shows."""
        assert self._device is not None
        drive, names = self._drive, self._embodiment.joint_names
        mode = drive.mode if self._device.modes else None
        keys = list(self._device.keys(drive.mode))
        if self._event_keys is not None:
            keys += self._event_keys.keys(drive.mode)
        return TeleopView(
            device=self._device_name,
            phase=drive.phase,
            driver=self._control.get("driver", ""),
            control=self._control.get("reason") or self._control.get("mode", ""),
            held=self._held,
            aligning=drive.aligning,
            mode=mode,
            speed=drive.speed,
            joints=tuple(
                zip(
                    names,
                    _values(self._proprio, names),
                    _values(drive.target, names),
                    strict=True,
                )
            ),
            keys=keys,
            recorder=self._recorder.answer,
            trouble=self._trouble or self._waiting(),
        )

    def _waiting(self) -> str:
        if self._proprio is None:
            return "no joint states yet"
        return "" if self._control else "control_node says nothing yet"

    def describe(self) -> DiagnosticStatus:
        """Say who has control, and what is wrong if something is."""
        drive = self._drive
        values = {
            "device": self._device_name,
            "phase": drive.phase.value,
            "driver": self._control.get("driver", ""),
            "mode": drive.mode.value,
            "speed": f"{drive.speed:.3f}",
            "dead-man held": self._held,
            "messages refused": self._refused,
            "ticks without all that the device needs": self._incomplete,
            "recorder": self._recorder.answer,
            **self._timings.values,
            **self._arrivals.rates,
        }
        if self._trouble:
            return status_message("teleop_node", ERROR, self._trouble, values)
        if waiting := self._waiting():
            return status_message("teleop_node", WARN, waiting, values)
        text = "aligning with the leader" if drive.aligning else drive.phase.value
        return status_message("teleop_node", OK, text, values)


def make_drive(embodiment: Embodiment, device: TeleopDevice, values: TeleopParameters) -> Drive:
    """Return what turns a device's input into targets.

    Raises:
        MoxinVlaError: The mode is unknown, or the device or the robot has no such mode.
    """
    full = FullSpeed(
        values.joint_rad_s,
        values.gripper_rad_s,
        values.linear_m_s,
        values.angular_rad_s,
        values.align_rad_s,
    )
    wished = _mode(values.mode, device)
    mappings: dict[Mode, Mapping] = {}
    for mode in device.modes:
        if mode is Mode.JOINT:
            mappings[mode] = JointMapping(embodiment, full)
        elif kinematics := _kinematics(embodiment, values, needed=wished is mode):
            mappings[mode] = EndEffectorMapping(embodiment, full, kinematics)
    if mappings and wished not in mappings:
        wished = next(iter(mappings))
    return Drive(
        embodiment,
        mappings,
        FollowMapping(embodiment, full, device.aligns),
        holding_takes=device.has_dead_man,
        trusts=not device.modes and not device.aligns,
        give_back_after_ticks=round(values.give_back_after_s * embodiment.control_rate_hz),
        speed=values.speed,
        mode=wished,
    )


def _mode(text: str, device: TeleopDevice) -> Mode:
    usual = device.modes[0] if device.modes else Mode.JOINT
    if not text or not device.modes:
        return usual
    known = {mode.value: mode for mode in device.modes}
    if text not in known:
        raise TeleopError(f"The device has no mode '{text}'. It has: {listed(known)}")
    return known[text]


def _kinematics(embodiment: Embodiment, values: TeleopParameters, needed: bool):
    """Return the robot's kinematics; None if they are neither to be had nor asked for."""
    try:
        from moxin_sim.robots.mink_arm import arm_kinematics

        return arm_kinematics(embodiment, values.robot_model, values.end_effector)
    except ModuleNotFoundError as error:
        if not needed:
            return None
        raise DependencyError(
            f"The ee mode needs {error.name}. Install it with: pip install 'moxin_vla[sim]'"
        ) from None
    except MoxinVlaError:
        if needed or values.robot_model:
            raise
        return None  # another robot than the SO-101, without a model: joint mode only


def _values(positions: NDArray[np.float64] | None, names: tuple[str, ...]) -> list[float | None]:
    return [None] * len(names) if positions is None else [float(p) for p in positions]


def main() -> int:
    """Run teleop_node."""
    return run_node(TeleopNode)


if __name__ == "__main__":
    sys.exit(main())
