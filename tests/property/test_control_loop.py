"""Whatever arrives in whatever order, every command is safe and the arm comes to rest."""

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from moxin_vla.core.embodiment import HoldBehaviour, load_embodiment
from moxin_vla.core.types import ActionChunk, ControlMode, HoldReason
from moxin_vla.runtime.loop import ControlLoop
from moxin_vla.safety.limits import JointLimits

ROBOT = load_embodiment(Path(__file__).parents[2] / "config" / "embodiments" / "so101_sim.yaml")
STEP, DOF = ROBOT.step_ns, ROBOT.dof
LOWER, UPPER = ROBOT.position_lower, ROBOT.position_upper
MAX_STEP = ROBOT.velocity_limit * STEP / 1e9
TOLERANCE = 1e-9
# Ticks after which any chunk below has run out and any pose within the limits has been reached.
REST = 10 + int(np.ceil(np.max((UPPER - LOWER) / MAX_STEP))) + 1

SETTINGS = settings(max_examples=300, deadline=None, derandomize=True, database=None)
FEWER = settings(SETTINGS, max_examples=100)

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
switches = st.sampled_from([("enable",), ("enable",), ("disable",), ("again",), ("stop",)])
events = mostly(st.one_of(ticks, ticks, ticks, chunks), switches)
histories = st.lists(events, min_size=15, max_size=30)


class Player:
    """Plays a history into a control loop and checks every command that comes out."""

    def __init__(self, hold):
        self.robot = dataclasses.replace(ROBOT, hold=hold)
        self.loop = ControlLoop(self.robot, JointLimits(self.robot))
        self.now_ns, self.last, self.plan, self.offered = 10**12, None, None, None
        self.may_run, self.reached = False, Counter()

    def play(self, event):
        kind, *rest = event
        if kind == "tick":
            self.tick(*rest)
        elif kind == "chunk":
            offset_ns, seed, spoil, steps, dof, step_ns = rest
            actions = array(seed, (steps, DOF), spoil)[:, :dof]
            self.offer(ActionChunk(self.now_ns + offset_ns, step_ns, actions))
        elif kind == "again" and self.offered is not None:
            self.offer(self.offered)
        elif kind == "stop":
            self.loop.stop()
        elif kind in ("enable", "disable"):
            self.loop.enable(kind == "enable")

    def offer(self, chunk):
        self.offered = chunk
        if self.loop.commit(chunk, self.now_ns).accepted:
            self.check_accepted(chunk)
            self.plan, self.may_run = chunk, True
        elif chunk.actions.shape[1] == DOF and chunk.step_ns == STEP:
            self.may_run &= bool(np.all(np.isfinite(chunk.actions)))

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
        command = self.loop.tick(self.now_ns, proprio, time_ns)
        status = self.loop.status()
        self.reached[status.reason] += 1
        if not (usable and self.may_run):
            assert status.mode is not ControlMode.RUNNING
        assert command is not None or self.last is None
        if command is not None:
            self.check(command)
            self.last = command.positions

    def check(self, command):
        positions = command.positions
        assert np.all(np.isfinite(positions))
        assert np.all((positions >= LOWER) & (positions <= UPPER))
        if self.last is not None:
            assert np.all(np.abs(positions - self.last) <= MAX_STEP + TOLERANCE)
        if command.mode is ControlMode.RUNNING:
            self.check_played(command)

    def check_played(self, command):
        """The step played is the one of the newest chunk that belongs to this very moment."""
        index = (command.time_ns - self.plan.observation_time_ns) // STEP
        assert 0 <= index < self.plan.horizon
        wanted = np.clip(self.plan.actions[index], LOWER, UPPER)
        if self.last is not None:
            wanted = np.clip(wanted, self.last - MAX_STEP, self.last + MAX_STEP)
            assert np.allclose(command.positions, wanted, rtol=0.0, atol=TOLERANCE)


def test_every_command_is_safe_and_no_stale_step_is_played():
    reached = Counter()

    @SETTINGS
    @given(histories, st.sampled_from(HoldBehaviour))
    def every_command_is_safe(history, hold):
        player = Player(hold)
        for event in history:
            player.play(event)
        reached.update(player.reached)

    every_command_is_safe()
    # Without this the histories could degenerate, and a loop that never moves would pass.
    assert reached[HoldReason.NONE] > 500
    assert [reason for reason in HoldReason if reached[reason] < 5] == []


@FEWER
@given(histories, st.sampled_from(HoldBehaviour), seeds)
def test_the_arm_comes_to_rest_once_chunks_stop(history, hold, seed):
    player = Player(hold)
    for event in history:
        player.play(event)
    player.now_ns += 2 * STEP  # whatever is stamped up to two steps ahead
    for _ in range(REST):
        player.tick(STEP, (seed, None, 0))
    assert player.loop.status().mode is not ControlMode.RUNNING
    at_rest = player.last
    for k in range(5):
        player.tick(STEP, (seed + k, None, 0))
        assert np.array_equal(player.last, at_rest)


@FEWER
@given(histories)
def test_a_stop_moves_nothing_any_more(history):
    player = Player(HoldBehaviour.LAST_COMMAND)
    player.tick(STEP, (0, None, 0))
    for event in history[: len(history) // 2]:
        player.play(event)
    player.loop.stop()
    stopped_at = player.last
    for event in history[len(history) // 2 :]:
        player.play(event)
        assert np.array_equal(player.last, stopped_at)
