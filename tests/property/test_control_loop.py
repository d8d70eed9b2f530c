"""Whatever arrives in whatever order, every command is safe and the arm comes to rest."""

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
from examples import EXAMPLES, FEWER, SETTINGS
from hypothesis import given
from hypothesis import strategies as st

from moxin_vla.core.embodiment import HoldBehaviour, load_embodiment
from moxin_vla.core.types import ActionChunk, CommitReason, ControlMode, HoldReason
from moxin_vla.runtime.handover import Driver
from moxin_vla.runtime.joiners import JOINERS, make_joiner
from moxin_vla.runtime.loop import ControlLoop
from moxin_vla.safety.kinematics import forward_kinematics
from moxin_vla.safety.limits import JointLimits

ROBOT = load_embodiment(Path(__file__).parents[2] / "config" / "embodiments" / "so101_sim.yaml")
STEP, DOF = ROBOT.step_ns, ROBOT.dof
STEP_S = STEP / 1e9
LOWER, UPPER = ROBOT.position_lower, ROBOT.position_upper
TOLERANCE = 1e-9
ARM = np.arange(DOF) != ROBOT.gripper_index


def softened(velocity, acceleration, jerk, workspace=None):
    joints = tuple(
        dataclasses.replace(j, velocity=velocity, acceleration=acceleration, jerk=jerk)
        for j in ROBOT.joints
    )
    # Random targets are far apart: a contract that forbids that would leave nothing to limit.
    safety = dataclasses.replace(
        ROBOT.safety,
        refuse_factor=100.0,
        path_tolerance_rad=9.0,
        start_jump_rad=9.0,
        workspace=workspace,
    )
    return dataclasses.replace(ROBOT, joints=joints, safety=safety)


ROBOTS = [
    ROBOT,
    softened(4.0, 120.0, 4000.0),
    softened(2.0, 10.0, 200.0),
    softened(1.5, 3.0, 15.0),
    softened(2.0, 10.0, 200.0, ROBOT.safety.workspace),
]
TIP = forward_kinematics(ROBOT)
# Ticks after which any chunk or operator below is over, and any pose has been reached.
REST = 300

# Mostly sensible, sometimes hostile: what spoils an array, and in which entry.
spoils = st.sampled_from([None] * 60 + [np.nan, np.inf, -np.inf, 1e308, -7.0])
seeds = st.integers(0, 2**32 - 1)


def array(seed, shape, spoil):
    """Return joint positions, some past the limits, with one entry spoiled."""
    rng = np.random.default_rng(seed)
    values = rng.uniform(LOWER - 0.3, UPPER + 0.3, shape)
    if spoil is not None:
        values.flat[rng.integers(values.size)] = spoil
    return values


def mostly(usual, unusual):
    """Return `usual` in about nine of ten cases."""
    return st.integers(0, 9).flatmap(lambda draw: unusual if draw == 5 else usual)


offsets_ns = mostly(
    st.integers(-3, 0).map(lambda steps: steps * STEP), st.integers(-12 * STEP, 2 * STEP)
)
poses = st.tuples(seeds, spoils, mostly(st.integers(-2, 0), st.sampled_from([-9, -6, 2, 9])))
ticks = st.tuples(
    st.just("tick"),
    mostly(st.just(STEP), st.integers(-20 * STEP, 10 * STEP)),
    mostly(poses, st.none()),
)
chunks = st.tuples(
    st.just("chunk"),
    offsets_ns,
    seeds,
    spoils,
    st.integers(2, 10),
    mostly(st.just(DOF), st.just(DOF - 1)),
    mostly(st.just(STEP), st.just(STEP + 1)),
)
switches = st.sampled_from(
    [("enable",), ("enable",), ("disable",), ("again",), ("stop",), ("release",), ("reset",)]
)
operators = st.tuples(st.just("operator"), seeds, spoils)
events = mostly(st.one_of(ticks, ticks, ticks, chunks), st.one_of(switches, operators))
histories = st.lists(events, min_size=15, max_size=30)
robots = st.builds(
    lambda robot, hold: dataclasses.replace(robot, hold=hold),
    st.sampled_from(ROBOTS),
    st.sampled_from(HoldBehaviour),
)


class Player:
    """Plays a history into a control loop and checks every command that comes out."""

    def __init__(self, robot, joiner=None):
        self.robot, self.by_clock = robot, joiner is None
        self.loop = ControlLoop(robot, JointLimits(robot), joiner)
        self.now_ns, self.reached, self.named = 10**12, Counter(), Counter()
        self.forget()

    def forget(self):
        self.sent, self.plan, self.offered, self.may_run = [], None, None, False
        self.wanted, self.path = None, []

    @property
    def last(self):
        return self.sent[-1] if self.sent else None

    def play(self, event):
        kind, *rest = event
        if kind == "tick":
            self.tick(*rest)
        elif kind == "chunk":
            offset_ns, seed, spoil, steps, dof, step_ns = rest
            actions = array(seed, (steps, DOF), spoil)[:, :dof]
            self.offer(ActionChunk(self.now_ns + offset_ns, step_ns, actions))
        elif kind == "operator":
            target = array(rest[0], DOF, rest[1])
            if self.loop.operate(target, self.now_ns):
                self.wanted = target
        elif kind == "again" and self.offered is not None:
            self.offer(self.offered)
        elif kind == "reset":
            self.loop.reset()
            self.forget()
        elif kind in ("stop", "release"):
            getattr(self.loop, kind)()
        elif kind in ("enable", "disable"):
            self.loop.enable(kind == "enable")

    def offer(self, chunk):
        self.offered = chunk
        verdict = self.loop.commit(chunk, self.now_ns)
        if verdict.accepted:
            self.check_accepted(chunk)
            self.plan, self.may_run = chunk, True
            self.path = [] if self.last is None else [self.last]
        elif verdict.reason in (CommitReason.NOT_FINITE, CommitReason.OUT_OF_CONTRACT):
            self.may_run = False

    def check_accepted(self, chunk):
        age_ns = self.now_ns - chunk.observation_time_ns
        assert 0 <= age_ns < chunk.horizon * STEP
        assert np.all(np.isfinite(chunk.actions))
        if self.may_run:  # else the clock may have gone back, and the plan is of its former run
            assert chunk.observation_time_ns >= self.plan.observation_time_ns

    def tick(self, step_ns, measured):
        self.now_ns += step_ns
        self.may_run &= step_ns >= 0
        proprio, time_ns, usable = None, None, False
        if measured is not None:
            seed, spoil, age_steps = measured
            proprio, time_ns = array(seed, DOF, spoil), self.now_ns + age_steps * STEP
            usable = bool(np.all(np.isfinite(proprio))) and abs(age_steps) <= 5
        if self.last is None and usable:
            self.start = np.clip(proprio, LOWER, UPPER)
            self.path = [self.start]
        refused = self.loop.status().rejected
        command = self.loop.tick(self.now_ns, proprio, time_ns)
        status = self.loop.status()
        self.may_run &= status.rejected == refused  # a chunk from before the first pose
        self.reached[status.reason] += 1
        if not usable or (status.driver is Driver.POLICY and not self.may_run):
            assert status.mode is not ControlMode.RUNNING
        assert command is not None or self.last is None
        if command is not None:
            self.check(command, status.driver)
            self.sent.append(command.positions)
            self.named.update(command.limited)

    def check(self, command, driver):
        positions, robot = command.positions, self.robot
        assert np.all(np.isfinite(positions))
        assert np.all((positions >= LOWER) & (positions <= UPPER))
        recent = np.array([*[self.start] * 3, *self.sent, positions][-4:])  # at rest before
        sizes = (robot.velocity_limit, robot.acceleration_limit, robot.jerk_limit)
        for order, size in enumerate(sizes, start=1):
            change = np.diff(recent, n=order, axis=0)[-1] / STEP_S**order
            assert np.all(np.abs(change) <= size + TOLERANCE), (order, change)
        if robot.safety.workspace is not None:
            self.check_inside(np.stack([self.start, positions]), robot.safety.workspace)
        if command.mode is ControlMode.RUNNING:
            if driver is Driver.OPERATOR:
                self.check_unlimited(command, self.wanted)
            elif self.by_clock:
                self.check_played(command)

    def check_inside(self, positions, box):
        """The end effector is in its box, or no farther outside than where it started."""
        tips = TIP(positions)
        outside = np.maximum(np.array(box.lower) - tips, tips - np.array(box.upper)).clip(0.0)
        assert np.all(outside[1] <= outside[0] + TOLERANCE)

    def check_unlimited(self, command, wanted):
        if not set(command.limited) - {"position"}:
            wanted = np.clip(wanted, LOWER, UPPER)
            assert np.allclose(command.positions, wanted, rtol=0.0, atol=TOLERANCE)

    def check_played(self, command):
        """The step played is the one of the newest chunk that belongs to this very moment."""
        index, into_ns = divmod(command.time_ns - self.plan.observation_time_ns, STEP)
        assert 0 <= index < self.plan.horizon
        after = min(index + 1, self.plan.horizon - 1)
        one, other = self.plan.actions[index], self.plan.actions[after]
        wanted = one + into_ns / STEP * (other - one)
        self.check_unlimited(command, wanted)
        self.path.append(np.clip(wanted, LOWER, UPPER))
        if "slowed" in command.limited:  # late on the path, never ahead of it or off it
            behind = np.array([*self.path, *self.sent[-1:]])[:, ARM]
            assert np.all(command.positions[ARM] >= behind.min(axis=0) - TOLERANCE)
            assert np.all(command.positions[ARM] <= behind.max(axis=0) + TOLERANCE)

    def rest(self, seed=0):
        """Tick until nothing is left to be played."""
        self.now_ns += 2 * STEP  # whatever is stamped up to two steps ahead
        for _ in range(REST):
            self.tick(STEP, (seed, None, 0))


def test_every_command_is_safe_and_no_stale_step_is_played():
    reached, named = Counter(), Counter()

    @SETTINGS
    @given(histories, robots)
    def every_command_is_safe(history, robot):
        player = Player(robot)
        for event in history:
            player.play(event)
        reached.update(player.reached)
        named.update(player.named)

    every_command_is_safe()
    # Without this the histories could degenerate, and a loop that never moves would pass.
    assert reached[HoldReason.NONE] > EXAMPLES
    rare = {HoldReason.SECOND_COMMANDER}  # found by the node, and tested there
    assert [r for r in HoldReason if reached[r] < 3 and r not in rare] == []
    limits = ("position", "velocity", "acceleration", "jerk", "slowed")
    assert [name for name in limits if named[name] < 5] == []


@FEWER
@given(histories, robots, st.sampled_from(JOINERS))
def test_however_chunks_are_joined_every_command_is_safe(history, robot, joiner):
    player = Player(robot, make_joiner(joiner, 4, [robot.gripper_index]))
    for event in history:
        player.play(event)
    player.rest()
    assert player.loop.status().mode is not ControlMode.RUNNING


@FEWER
@given(histories, robots, seeds)
def test_the_arm_comes_to_rest_once_chunks_stop(history, robot, seed):
    player = Player(robot)
    for event in history:
        player.play(event)
    player.rest(seed)
    assert player.loop.status().mode is not ControlMode.RUNNING
    at_rest = player.last
    for k in range(5):
        player.tick(STEP, (seed + k, None, 0))
        assert np.array_equal(player.last, at_rest)


@FEWER
@given(
    histories,
    st.builds(lambda robot: dataclasses.replace(robot, hold=HoldBehaviour.LAST_COMMAND), robots),
    st.sampled_from([HoldReason.STOP_REQUESTED, HoldReason.SECOND_COMMANDER]),
)
def test_a_fault_ends_in_standstill_whatever_else_arrives(history, robot, reason):
    player = Player(robot)
    player.tick(STEP, (0, None, 0))
    early, late = history[: len(history) // 2], history[len(history) // 2 :]
    for event in early:
        player.play(event)
    player.loop.fault(reason)
    for event in late:
        if event != ("reset",):
            player.play(event)
    for _ in range(REST):
        player.tick(STEP, None)
    stood = player.last
    for event in late:
        if event != ("reset",):
            player.play(event)
            assert stood is None or np.array_equal(player.last, stood)
    assert player.loop.status().mode in (ControlMode.STOPPED, ControlMode.FAULT)
