"""One fault per test, over real processes: how fast the arm still moved, when it stood, and why.

With MOXIN_VLA_WRITE_FAULTS=1 the measured table becomes docs/reference/faults.md.
"""

import copy
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from moxin_vla.core.embodiment import Embodiment, load_embodiment
from moxin_vla.core.resources import resource_path
from moxin_vla.core.types import Command, CommitReason, ControlMode, HoldReason
from moxin_vla.ros.bringup import Bringup
from moxin_vla.ros.conversions import command_message
from moxin_vla.ros.qos import COMMAND
from moxin_vla.system import SystemConfig
from tests.ros.fault_page import PAGE, Row, page
from tests.ros.fault_robot import FaultRobot, stamped

PATIENCE_S, STOOD_S = 30.0, 0.4
RUNNING = "running"


ROWS: list[Row] = []


@pytest.fixture(scope="module")
def robot_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An embodiment with limits low enough for a stop to take a while."""
    source = resource_path("config/embodiments/so101_sim.yaml")
    values = yaml.safe_load(source.read_text(encoding="utf-8"))
    for joint in values["joints"]:
        joint.update(velocity=1.5, acceleration=8.0, jerk=160.0)
    values["safety"].update(latch_after_s=0.5, reset_cooldown_s=0.3)
    values["watchdog"].update(camera_max_age_s=0.3)
    path = tmp_path_factory.mktemp("robot") / "robot.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def suite(domain_id: int, robot_file: Path) -> Iterator[SimpleNamespace]:
    """One system for all: a robot that drives /clock, control_node and policy_node."""
    embodiment = load_embodiment(robot_file)
    config = SystemConfig(robot_file, "scripted:sweep", simulation=False, domain_id=domain_id)
    system = Bringup(config)
    for node in system._nodes.values():
        node.parameters["use_sim_time"] = True
    robot = FaultRobot(embodiment)
    robot.start()
    try:
        with system:
            yield SimpleNamespace(system=system, robot=robot, embodiment=embodiment)
    finally:
        robot.close()
    if os.environ.get("MOXIN_VLA_WRITE_FAULTS"):
        PAGE.write_text(page(embodiment, ROWS), encoding="utf-8")


def until(condition: Callable[[], object], what: str, timeout_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        time.sleep(0.01)
        assert time.monotonic() < deadline, f"never happened: {what}"


def reset(suite: SimpleNamespace, listener) -> None:
    listener.call(Trigger, "control_node/stop", Trigger.Request())
    until(lambda: suite.robot.values.get("mode") == ControlMode.STOPPED.value, "the arm stops")
    until(
        lambda: listener.call(Trigger, "control_node/reset", Trigger.Request()).success,
        "control_node takes a reset",
    )


@pytest.fixture
def moving(suite: SimpleNamespace, listener) -> Iterator[SimpleNamespace]:
    """The system with the arm in fast motion; the test's own policy plans."""
    robot = suite.robot
    robot.mend()
    os.kill(suite.system.pid("policy_node"), signal.SIGSTOP)
    robot.plans = True
    reset(suite, listener)
    until(lambda: robot.values.get("mode") == RUNNING, "the arm runs")
    in_full_swing(suite)
    yield suite
    robot.mend()
    os.kill(suite.system.pid("policy_node"), signal.SIGCONT)


@pytest.fixture
def planned(suite: SimpleNamespace, listener) -> Iterator[SimpleNamespace]:
    """The system with the arm in fast motion, planned by policy_node."""
    suite.robot.mend()
    reset(suite, listener)
    until(lambda: suite.robot.values.get("mode") == RUNNING, "the arm runs")
    in_full_swing(suite)
    yield suite
    suite.robot.mend()


def in_full_swing(suite: SimpleNamespace) -> None:
    """Wait until the arm is fastest."""

    def fast() -> bool:
        sent = suite.robot.commands[-2:]
        return len(sent) == 2 and abs(sent[1][1][0] - sent[0][1][0]) > 0.018

    until(fast, "the arm swings")


def measure(suite: SimpleNamespace, fault: str, since_s: float, reason: str, back: str) -> Row:
    """Wait for the reason and for standstill; check every command since the fault."""
    robot, period_s = suite.robot, suite.embodiment.step_ns / 1e9
    until(
        lambda: any(s >= since_s and r == reason for s, _, r in robot.reasons),
        f"{reason!r} is reported; said: {robot.reasons[-4:]}",
    )
    until(lambda: stood_since(robot, since_s) is not None, "the arm stands")
    stood_s = stood_since(robot, since_s)
    row = checked(suite, fault, since_s, period_s)
    mode = next(m for s, m, r in reversed(robot.reasons) if r == reason)
    row = Row(fault, mode, reason, *row, stood_s - since_s, back)
    ROWS.append(row)
    return row


def stood_since(robot: FaultRobot, since_s: float) -> float | None:
    """Return when the commands became constant, in [s] of the steady clock; None if they move."""
    commands = list(robot.commands)
    last = commands[-1][1]
    moving = [s for s, positions in commands if not np.array_equal(positions, last)]
    stood_s = max(moving[-1] if moving else since_s, since_s)
    return stood_s if time.monotonic() - stood_s > STOOD_S else None


def checked(
    suite: SimpleNamespace, fault: str, since_s: float, period_s: float
) -> tuple[float, float]:
    """Return the largest speed and acceleration of commands since the fault, as the arm had them;
    neither may break a limit.
    """
    embodiment: Embodiment = suite.embodiment
    commands = list(suite.robot.commands)
    first = next((i for i, (s, _) in enumerate(commands) if s >= since_s), len(commands))
    path = np.array([positions for _, positions in commands[max(0, first - 3) :]])
    speed = np.abs(np.diff(path, axis=0)) / period_s
    acceleration = np.abs(np.diff(path, n=2, axis=0)) / period_s**2
    assert np.all(speed <= embodiment.velocity_limit + 1e-9), fault
    over = np.argwhere(acceleration > embodiment.acceleration_limit + 1e-9)
    assert not len(over), (fault, over[:4], path[max(0, over[0][0] - 3) : over[0][0] + 5, 0])
    arm = np.array(suite.robot.measured[-200:])
    assert np.all((arm >= embodiment.position_lower) & (arm <= embodiment.position_upper))
    return float(speed.max(initial=0.0)), float(acceleration.max(initial=0.0))


def goes_on(suite: SimpleNamespace) -> None:
    since_s = time.monotonic()
    until(
        lambda: (
            any(s > since_s and m == RUNNING for s, m, _ in suite.robot.reasons)
            or suite.robot.values.get("mode") == RUNNING
        ),
        "the arm goes on",
    )


def test_policy_node_killed(planned, listener) -> None:
    since_s = time.monotonic()
    os.kill(planned.system.pid("policy_node"), signal.SIGKILL)
    measure(planned, "policy_node killed (-9)", since_s, HoldReason.STARVED.value, "restart it")
    planned.system.restart("policy_node")
    goes_on(planned)


def test_policy_hangs(planned) -> None:
    since_s = time.monotonic()
    os.kill(planned.system.pid("policy_node"), signal.SIGSTOP)
    try:
        measure(planned, "policy hangs", since_s, HoldReason.STARVED.value, "by itself")
    finally:
        os.kill(planned.system.pid("policy_node"), signal.SIGCONT)
    goes_on(planned)


def test_camera_stops(planned) -> None:
    since_s = time.monotonic()
    planned.robot.cameras_on = False
    measure(planned, "camera stops", since_s, HoldReason.STARVED.value, "by itself")
    planned.robot.cameras_on = True
    goes_on(planned)


def test_camera_freezes(planned) -> None:
    since_s = time.monotonic()
    planned.robot.frozen = True
    measure(planned, "camera freezes", since_s, HoldReason.STARVED.value, "by itself")
    planned.robot.frozen = False
    goes_on(planned)


def spoiled(moving, how: Callable[[JointTrajectory], list[JointTrajectory]]) -> float:
    moving.robot.spoil = how
    return time.monotonic()


def test_policy_returns_nan(moving) -> None:
    def nan(message: JointTrajectory) -> list[JointTrajectory]:
        message.points[3].positions[1] = math.nan
        return [message]

    since_s = spoiled(moving, nan)
    row = measure(moving, "policy returns NaN", since_s, HoldReason.NOT_FINITE.value, "~/reset")
    until(lambda: moving.robot.values["mode"] == ControlMode.FAULT.value, "the fault latches")
    moving.robot.mend()
    assert row.stood_after_s < 2.0


def test_policy_returns_a_wrong_shape(moving) -> None:
    def narrow(message: JointTrajectory) -> list[JointTrajectory]:
        for point in message.points:
            point.positions = point.positions[:-1]
        return [message]

    since_s = spoiled(moving, narrow)
    starved = HoldReason.STARVED.value
    measure(moving, "policy returns a wrong shape", since_s, starved, "by itself")
    assert int(moving.robot.values["messages refused"]) > 0
    moving.robot.spoil = lambda message: [message]
    goes_on(moving)


def test_policy_returns_a_wrong_joint_order(moving) -> None:
    def swapped(message: JointTrajectory) -> list[JointTrajectory]:
        names = list(message.joint_names)
        message.joint_names = [names[1], names[0], *names[2:]]
        return [message]

    since_s = spoiled(moving, swapped)
    starved = HoldReason.STARVED.value
    measure(moving, "policy returns a wrong joint order", since_s, starved, "by itself")
    moving.robot.spoil = lambda message: [message]
    goes_on(moving)


def test_policy_jumps(moving) -> None:
    def jump(message: JointTrajectory) -> list[JointTrajectory]:
        for point in message.points[::2]:
            point.positions[0] += 1.0
        return [message]

    since_s = spoiled(moving, jump)
    reason = HoldReason.OUT_OF_CONTRACT.value
    measure(moving, "policy asks for jumps", since_s, reason, "~/reset")
    moving.robot.mend()


def test_proprio_stops(moving) -> None:
    since_s = time.monotonic()
    moving.robot.joints_on = False
    measure(moving, "proprio stops", since_s, HoldReason.PROPRIO_STALE.value, "~/reset")
    until(lambda: moving.robot.values["mode"] == ControlMode.FAULT.value, "the fault latches")


def test_a_joint_is_missing(moving) -> None:
    since_s = time.monotonic()
    moving.robot.names = moving.robot.names[:-1]
    stale = HoldReason.PROPRIO_STALE.value
    measure(moving, "a joint is missing", since_s, stale, "~/reset")


def test_permuted_joints_do_no_harm(moving) -> None:
    since_s = time.monotonic()
    moving.robot.names = moving.robot.names[::-1]
    time.sleep(1.0)
    speed, acceleration = checked(moving, "joints permuted", since_s, 0.05)
    assert moving.robot.values["mode"] == RUNNING
    row = Row(
        "joints permuted", RUNNING, "taken by name", speed, acceleration, None, "none needed"
    )
    ROWS.append(row)


def late() -> Callable[[JointTrajectory], list[JointTrajectory]]:
    """Hold every chunk back until the next one is made: 8 of its 16 steps have passed then."""
    kept: list[JointTrajectory] = []

    def delay(message: JointTrajectory) -> list[JointTrajectory]:
        kept.append(message)
        return [kept.pop(0)] if len(kept) > 1 else []

    return delay


def again(message: JointTrajectory) -> list[JointTrajectory]:
    return [message, copy.deepcopy(message), copy.deepcopy(message)]


def older(message: JointTrajectory) -> list[JointTrajectory]:
    return [message, stamped(copy.deepcopy(message), -200_000_000)]


@pytest.mark.parametrize(
    ("fault", "how", "counter", "said"),
    [
        ("chunks late", late(), "trimmed_steps", "passed steps are trimmed"),
        ("chunks duplicated", again, "commits", "replaced by itself"),
        ("chunks reordered", older, "rejected out_of_order", CommitReason.OUT_OF_ORDER.value),
    ],
)
def test_chunks_late_duplicated_or_reordered(moving, fault, how, counter, said) -> None:
    since_s, before = spoiled(moving, how), int(moving.robot.values.get(counter, 0))
    until(lambda: int(moving.robot.values.get(counter, 0)) >= before + 4, f"{counter} counts")
    speed, acceleration = checked(moving, fault, since_s, 0.05)
    ROWS.append(Row(fault, "running or holding", said, speed, acceleration, None, "none needed"))


def test_clock_reset(moving) -> None:
    since_s = time.monotonic()
    moving.robot.plans = False
    moving.robot.now_ns -= 600_000_000
    measure(moving, "clock reset", since_s, HoldReason.CLOCK_WENT_BACK.value, "~/reset")


def test_second_commander(moving, listener) -> None:
    intruder = listener.node.create_publisher(JointTrajectory, "control_node/command", COMMAND)
    since_s = time.monotonic()
    at = moving.robot.commands[-1][1]
    message = command_message(Command(1, at, ControlMode.RUNNING), moving.robot.names)
    latched = HoldReason.SECOND_COMMANDER.value
    before = list(moving.robot.commands)

    def found() -> bool:
        intruder.publish(message)
        time.sleep(0.05)
        return any(s >= since_s and r == latched for s, _, r in moving.robot.reasons)

    until(found, "the second commander is found")
    listener.node.destroy_publisher(intruder)
    foreign = message.points[0].positions.tolist()
    ours = [c for c in moving.robot.commands[len(before) :] if c[1].tolist() != foreign]
    moving.robot.commands[:] = [*before, *ours]
    measure(moving, "second commander", since_s, latched, "~/reset")


def test_simulator_restarted(moving) -> None:
    since_s = time.monotonic()
    moving.robot.plans = moving.robot.powered = False
    time.sleep(0.5)
    moving.robot.restart()
    moving.robot.powered = True
    back = HoldReason.CLOCK_WENT_BACK.value
    measure(moving, "simulator restarted", since_s, back, "~/reset")


def test_control_node_restarted(moving) -> None:
    since_s = time.monotonic()
    os.kill(moving.system.pid("control_node"), signal.SIGKILL)
    time.sleep(0.3)
    at = moving.robot.commands[-1][1]
    sent = len(moving.robot.commands)
    moving.system.restart("control_node")
    until(lambda: len(moving.robot.commands) > sent, "it commands again")
    first = moving.robot.commands[sent][1]
    assert np.all(np.abs(first - at) <= 0.02), "the first command is near where the arm stood"
    until(lambda: moving.robot.values.get("mode") == RUNNING, "the arm goes on")
    moving.robot.commands[:sent] = [(since_s, at)] * 3
    speed, acceleration = checked(moving, "control_node restarted", since_s, 0.05)
    row = Row(
        "control_node killed (-9), restarted", RUNNING, HoldReason.NO_CHUNK.value, speed,
        acceleration, 0.0, "by itself: the arm keeps its last command, and starts from rest",
    )  # fmt: skip
    ROWS.append(row)
