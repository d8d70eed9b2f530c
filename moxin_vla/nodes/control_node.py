"""control_node: action chunks and joint states in; one safe command per control tick out.

realtime: a steady timer ticks at the control rate. lockstep: each joint state is a tick; at a tick
for which a plan is due it waits, without blocking the executor, for the chunk made from that very
state, and after `chunk_wait_s` goes on without, holding once the old chunk has run out. With an
injected delay the chunk that has come is kept until it becomes visible, d ticks later.

An operator on /teleop_node/command beats the policy; with `await_operator` a tick in lockstep
waits for his word, too. `~/stop` works in every lifecycle state and lasts until `~/reset`;
deactivation brakes to standstill before the node falls silent.
"""

import gc
import sys
import time
from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticStatus
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from moxin_vla.core.clock import NS_PER_S
from moxin_vla.core.embodiment import load_embodiment
from moxin_vla.core.errors import MoxinVlaError, listed
from moxin_vla.core.joints import JointLookup
from moxin_vla.core.messages import message_to_chunk, message_to_target, time_to_ns
from moxin_vla.core.types import ActionChunk, Command, ControlMode, HoldReason
from moxin_vla.ros.commanders import CommanderWatch
from moxin_vla.ros.conversions import command_message, forward_command_message, target_message
from moxin_vla.ros.diagnostics import ERROR, OK, WARN, Arrivals, Timings, status_message
from moxin_vla.ros.lifecycle import STEADY, ManagedNode, run_node
from moxin_vla.ros.parameters import ParameterError, parameter, read_parameters
from moxin_vla.ros.qos import COMMAND, COMMAND_PUBLISHER, sensor_subscription
from moxin_vla.ros.resets import reset_answer
from moxin_vla.runtime.cutoff import Cutoff
from moxin_vla.runtime.delay import NO_DELAY, parse_delay
from moxin_vla.runtime.faults import FAULTS
from moxin_vla.runtime.joiners import DEFAULT_JOINER, JOINERS, make_joiner
from moxin_vla.runtime.loop import ControlLoop
from moxin_vla.runtime.operator_inbox import OperatorInbox
from moxin_vla.runtime.requests import Answers, Requests
from moxin_vla.safety.limits import JointLimits
from moxin_vla.safety.watchdog import SilenceWatchdog

_JOINTS = "joint states"
_POLL_S = 0.05
_COMMAND_TYPES = {"joint_trajectory": JointTrajectory, "float64_multi_array": Float64MultiArray}
_LOOK_S = 0.2  # between looks at who else publishes
_LONGEST_STOP = 500  # ticks
_STATUS_S = 0.1


@dataclass(frozen=True, slots=True)
class ControlParameters:
    """Parameters of control_node."""

    embodiment: str = parameter("", "embodiment file")
    lockstep: bool = parameter(False, "tick on joint states and wait for due plans")
    execution_horizon: int = parameter(
        8, "control steps between plans, as in policy_node", bounds=(1, 1000)
    )
    joiner: str = parameter(
        DEFAULT_JOINER, f"how a new chunk joins the plan, as in policy_node: {', '.join(JOINERS)}"
    )
    delay: str = parameter(
        NO_DELAY.name, "lockstep: injected inference delay, in control steps, as in policy_node"
    )
    chunk_wait_s: float = parameter(
        10.0, "lockstep: longest wait for a due plan, in [s]", bounds=(0.0, 3600.0)
    )
    await_operator: bool = parameter(
        False, "lockstep: wait at every tick for teleop_node's word, too"
    )
    command_type: str = parameter(
        "joint_trajectory", f"message type of commands: {' or '.join(_COMMAND_TYPES)}"
    )
    dry_run: bool = parameter(
        True, "publish commands on ~/dry_run instead; a simulated embodiment ignores it"
    )


class ControlNode(ManagedNode):
    """The last hop before the robot; imports no torch, so nothing can hold its thread."""

    def __init__(self) -> None:
        super().__init__("control_node", ControlParameters)
        self._loop: ControlLoop | None = None
        self._latched, self._latched_s = HoldReason.NONE, 0.0  # outlives the loop
        self.create_service(Trigger, "~/reset", self._on_reset)
        self.create_service(Trigger, "~/stop", self._on_stop)

    def setup(self) -> None:
        """Load the robot and build the loop."""
        values = read_parameters(self, ControlParameters)
        self._embodiment = load_embodiment(values.embodiment)
        if values.command_type not in _COMMAND_TYPES:
            raise ParameterError(
                f"Unknown command_type '{values.command_type}'. "
                f"Choose from: {listed(_COMMAND_TYPES)}"
            )
        self._command_type = values.command_type
        self._lockstep, self._wait_s = values.lockstep, values.chunk_wait_s
        s, step_ns = values.execution_horizon, self._embodiment.step_ns
        joiner = make_joiner(values.joiner, s, [self._embodiment.gripper_index])
        self._loop = ControlLoop(self._embodiment, JointLimits(self._embodiment), joiner)
        self._requests = Requests(joiner, s, step_ns, parse_delay(values.delay, step_ns))
        self._answers = Answers(self._requests)  # lockstep: arrived, but not visible yet
        self._await_operator = values.lockstep and values.await_operator
        self._operator = OperatorInbox[JointTrajectory]()
        self._lookup = JointLookup(self._embodiment.joint_names)
        self._cutoff, self._arrivals = Cutoff([_JOINTS]), Arrivals()
        self._proprio, self._proprio_ns = None, None
        silent = self._embodiment.watchdog.proprio_max_age_s * self._embodiment.control_rate_hz
        self._hearing = SilenceWatchdog(max(1, round(silent)))
        self._timings = Timings("tick")
        self._waiting_since_s: float | None = None
        self._refused, self._waits_over = 0, 0
        self._sent: JointTrajectory | Float64MultiArray | None = None
        self._said: tuple[object, ...] = ()
        self._said_s = 0.0
        self._connect("~/dry_run" if values.dry_run and not self._embodiment.simulated else "")

    def _connect(self, dry_run: str) -> None:
        self._commands_out = self.create_lifecycle_publisher(
            _COMMAND_TYPES[self._command_type], dry_run or "~/command", COMMAND_PUBLISHER
        )
        self._actions_out = self.create_lifecycle_publisher(
            JointTrajectory, "~/action", COMMAND_PUBLISHER
        )
        self._commanders = CommanderWatch(
            self, _COMMAND_TYPES[self._command_type], self._commands_out.topic_name
        )
        topic, qos = self._embodiment.joint_states_topic, sensor_subscription(self._lockstep)
        self.create_subscription(JointState, topic, self._on_joints, qos)
        self.create_subscription(
            JointTrajectory, "policy_node/action_chunk", self._on_chunk, COMMAND
        )
        self.create_subscription(JointTrajectory, "teleop_node/command", self._on_teleop, COMMAND)
        self.create_service(SetBool, "~/enable", self._on_enable)
        self.create_timer(_LOOK_S, self._look_around, clock=STEADY)

    def teardown(self) -> None:
        """Let go of the loop; what was latched stays latched."""
        self._loop = None

    def start(self) -> None:
        """Start ticking from the measured pose; a stop or fault from before still holds."""
        self._forget()
        if self._latched is not HoldReason.NONE:
            self._control.fault(self._latched)
        gc.collect()
        gc.freeze()  # what start-up made is never searched again: that takes longer than a tick
        if self._lockstep:
            self._ticker = self.create_timer(_POLL_S, self._give_up_waiting, clock=STEADY)
        else:
            period_s = self._embodiment.step_ns / NS_PER_S
            self._ticker = self.create_timer(period_s, self._tick_realtime, clock=STEADY)

    def halt(self) -> None:
        """Stop ticking, in real time after braking to standstill: the robot keeps that command."""
        self.destroy_timer(self._ticker)
        if not self._lockstep:
            self._brake()

    def _brake(self) -> None:
        """Send the way to standstill, one command per control period."""
        self._control.enable(False)
        for _ in range(_LONGEST_STOP):
            if self._control.standing:
                break
            started_s = time.monotonic()
            self._tick(self._now_ns())
            time.sleep(
                max(0.0, self._embodiment.step_ns / NS_PER_S - time.monotonic() + started_s)
            )
        self._control.enable(self._embodiment.simulated)

    @property
    def _control(self) -> ControlLoop:
        assert self._loop is not None
        return self._loop

    def _forget(self) -> None:
        """Start an episode: nothing stamped until now counts any more."""
        self._cutoff.cut()
        self._control.reset(self._cutoff.after_ns)
        self._requests.reset()
        self._hearing.reset()
        self._commanders.forget()
        self._answers.reset()
        self._operator.reset()
        self._proprio, self._proprio_ns = None, None
        self._waiting_since_s, self._sent = None, None
        self.publish_status()

    def _as_message(self, command: Command) -> JointTrajectory | Float64MultiArray:
        if self._command_type == "float64_multi_array":
            return forward_command_message(command)
        return command_message(command, self._embodiment.joint_names)

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._control.enable(request.data)
        response.success = True
        response.message = "motion is enabled" if request.data else "motion is disabled"
        return response

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if refusal := self._refusal_to_reset():
            response.success, response.message = False, refusal
            return response
        self._latched = HoldReason.NONE
        if self._loop is None:
            response.success, response.message = True, "reset; the node is not configured"
            return response
        self._forget()
        return reset_answer(response, self._cutoff.seen_ns)

    def _refusal_to_reset(self) -> str:
        """Say why a reset has to wait; empty if it need not."""
        if self._loop is None:
            return ""
        if self._latched is not HoldReason.NONE:
            wait_s = self._embodiment.safety.reset_cooldown_s
            left_s = self._latched_s + wait_s - time.monotonic()
            if left_s > 0:
                return f"refused: latched because {self._latched.value}; wait {left_s:.1f} s more"
        if self.active and not self._lockstep and not self._loop.standing:
            return "refused: the arm is moving; call ~/stop first"
        return ""

    def _on_stop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self._loop is not None:
            self._loop.stop()
        self._latch(HoldReason.STOP_REQUESTED)
        self.publish_status()
        response.success, response.message = True, "stopped until ~/reset"
        return response

    def _latch(self, reason: HoldReason) -> None:
        if reason is not self._latched:
            self._latched, self._latched_s = reason, time.monotonic()
            self.get_logger().error(f"latched until ~/reset: {reason.value}")

    def _look_around(self) -> None:
        """Find out whether somebody else commands the robot."""
        if not self.active:
            return
        self._commanders.look()
        if self._commanders.foreign and self._control.latched is HoldReason.NONE:
            self._commanders.forget()
            self._control.fault(HoldReason.SECOND_COMMANDER)

    def _on_teleop(self, message: JointTrajectory) -> None:
        """Take an operator's target; a message without points gives control back."""
        if not self.active:
            return
        self._arrivals.note("operator")
        if not self._await_operator:
            self._obey(message)
            return
        self._operator.put(time_to_ns(message.header.stamp), message)
        if self._waiting_since_s is not None and self._proprio_ns is not None:
            self._tick_lockstep(self._proprio_ns)

    def _obey(self, message: JointTrajectory) -> None:
        """Do what the operator says."""
        if not message.points:
            self._control.release()
            return
        try:
            target = message_to_target(message, self._embodiment.joint_names, self._now_ns())
        except MoxinVlaError as error:
            self._refuse(f"operator's command refused: {error}")
            return
        if not self._control.operate(target, self._now_ns()):
            self._refuse("operator's command refused: not finite")

    def _on_joints(self, message: JointState) -> None:
        time_ns = time_to_ns(message.header.stamp)
        if not self.active or not self._cutoff.admits(time_ns, _JOINTS):
            return
        self._arrivals.note(_JOINTS)
        self._hearing.heard()
        try:
            proprio = self._lookup.proprio(message.name, message.position)
        except MoxinVlaError as error:
            self._refuse(f"joint state refused: {error}")
            return
        again = time_ns == self._proprio_ns
        self._proprio, self._proprio_ns = proprio, time_ns
        if self._lockstep and again and self._sent is not None:
            self._commands_out.publish(self._sent)  # the simulator did not get it
        elif self._lockstep:
            self._tick_lockstep(time_ns)

    def _on_chunk(self, message: JointTrajectory) -> None:
        if not self.active:
            return
        self._arrivals.note("action chunks")
        try:
            chunk = message_to_chunk(message, self._embodiment.joint_names)
        except MoxinVlaError as error:
            self._refuse(f"action chunk refused: {error}")
            return
        if not (self._lockstep and self._cutoff.admits(chunk.observation_time_ns)):
            self._commit(chunk, self._now_ns())
            return
        self._answers.put(chunk)
        if self._waiting_since_s is not None and self._proprio_ns is not None:
            self._tick_lockstep(self._proprio_ns)

    def _commit(self, chunk: ActionChunk, now_ns: int) -> None:
        verdict = self._control.commit(chunk, now_ns)
        if not verdict.accepted:
            self.get_logger().warning(
                f"action chunk refused: {verdict.reason.value}", throttle_duration_sec=1.0
            )

    def _refuse(self, reason: str) -> None:
        self._refused += 1
        self.get_logger().error(reason, throttle_duration_sec=1.0)

    def _now_ns(self) -> int:
        if self._lockstep:
            return self._proprio_ns or 0
        return self.get_clock().now().nanoseconds

    def _tick_lockstep(self, time_ns: int) -> None:
        """Tick, or begin to wait if a plan from the state at `time_ns` is due."""
        requests = self._requests
        if self._await_operator and not self._operator.heard(time_ns):
            self._waiting_since_s = self._waiting_since_s or time.monotonic()
            return
        if (word := self._operator.take(time_ns)) is not None:
            self._obey(word)
        while requests.due(time_ns) or requests.asked_ns is not None:
            if requests.asked_ns is None:
                requests.ask(time_ns)  # as policy_node does
            chunk = self._answers.first()
            if chunk is None:
                self._waiting_since_s = self._waiting_since_s or time.monotonic()
                return
            if not requests.visible(time_ns):
                break
            self._answers.take()
            self._commit(chunk, time_ns)
            requests.land(time_ns, chunk.observation_time_ns)
        self._waiting_since_s = None
        self._tick(time_ns)

    def _give_up_waiting(self) -> None:
        """Go on without a plan when the policy stays silent; the next one is due as ever."""
        since_s = self._waiting_since_s
        if since_s is None or time.monotonic() - since_s < self._wait_s:
            return
        assert self._proprio_ns is not None
        self._waits_over += 1
        if self._await_operator and not self._operator.heard(self._proprio_ns):
            self.get_logger().warning(f"no word from teleop_node within {self._wait_s:g} s")
            self._operator.give_up(self._proprio_ns)
            self._waiting_since_s = None
        else:
            self.get_logger().warning(f"no action chunk within {self._wait_s:g} s")
            self._requests.land(self._proprio_ns)
        self._tick_lockstep(self._proprio_ns)

    def _tick_realtime(self) -> None:
        now_ns = self._now_ns()
        if not self._hearing.tick(now_ns):
            self._proprio, self._proprio_ns = None, None
        self._tick(now_ns)

    def _tick(self, now_ns: int) -> None:
        self._timings.start()
        command = self._control.tick(now_ns, self._proprio, self._proprio_ns)
        if command is not None:
            self._sent = self._as_message(command)
            self._commanders.sent(self._sent)
            self._say_what_was_asked(now_ns)
            self._commands_out.publish(self._sent)
        if self._control.latched is not HoldReason.NONE:
            self._latch(self._control.latched)
        self._timings.end()
        self._say_status()

    def _say_what_was_asked(self, now_ns: int) -> None:
        """Publish who asked for what before safety, if anybody wants to know."""
        if self._actions_out.get_subscription_count() == 0:
            return
        asked = self._control.asked
        driver = "" if asked.driver is None else asked.driver.value
        message = target_message(
            now_ns,
            self._embodiment.joint_names,
            asked.positions,
            driver,
            max(0, asked.chunk_age_ns or 0),
        )
        self._actions_out.publish(message)

    def _say_status(self) -> None:
        """Publish the status of every tick in lockstep, else when it changes, or after a while.

        At 100 Hz it would cost a fifth of the tick.
        """
        now, now_s = self._control.state, time.monotonic()
        if self._lockstep or now != self._said or now_s - self._said_s >= _STATUS_S:
            self._said, self._said_s = now, now_s
            self.publish_status()

    def measure(self) -> None:
        """Renew the rates of what arrives, and how long ticks take."""
        self._arrivals.measure()
        self._timings.measure()

    def describe(self) -> DiagnosticStatus:
        """Say what it does, and why it holds if it does."""
        status = self._control.status()
        age_s = (
            None if self._proprio_ns is None else (self._now_ns() - self._proprio_ns) / NS_PER_S
        )
        values = {
            **status.values(),
            "proprio age s": "" if age_s is None else f"{age_s:.3f}",
            "command publishers": self._commanders.publishers,
            "messages refused": self._refused,
            "chunks waited for in vain": self._waits_over,
            **self._timings.values,
            **self._arrivals.rates,
        }
        level = OK if status.mode is ControlMode.RUNNING else WARN
        latched = status.mode in (ControlMode.STOPPED, ControlMode.FAULT)
        level = ERROR if latched or status.reason in FAULTS else level
        text = status.reason.value or status.mode.value
        if not self._lockstep and self._now_ns() == 0:
            level, text = ERROR, "use_sim_time is set, but nothing arrives on /clock"
        return status_message("control_node", level, text, values)


def main() -> int:
    """Run control_node."""
    return run_node(ControlNode)


if __name__ == "__main__":
    sys.exit(main())
