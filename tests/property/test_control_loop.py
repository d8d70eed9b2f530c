"""Whatever arrives in whatever order, every command is safe and the arm comes to rest."""

import dataclasses
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from moxin_vla.core.embodiment import HoldBehaviour, load_embodiment
from moxin_vla.core.types import ActionChunk, ControlMode
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

# Mostly sensible, sometimes hostile: what spoils an array, and in which entry.
spoils = st.sampled_from([None] * 6 + [np.nan, np.inf, -np.inf, 1e308, -7.0])
seeds = st.integers(0, 2**32 - 1)


def array(seed, shape, spoil):
    """Return joint positions, some past the limits, with one entry spoiled."""
    rng = np.random.default_rng(seed)
    values = rng.uniform(LOWER - 0.3, UPPER + 0.3, shape)
    if spoil is not None:
        values.flat[rng.integers(values.size)] = spoil
    return values


offsets_ns = st.one_of(
    st.integers(-12, 2).map(lambda steps: steps * STEP), st.integers(-12 * STEP, 2 * STEP)
)
ticks = st.tuples(
    st.just("tick"),
    st.one_of(st.just(STEP), st.just(STEP), st.integers(-20 * STEP, 10 * STEP)),
    st.one_of(st.none(), st.tuples(seeds, spoils, st.sampled_from([0, 0, 0, -1, -9, 9]))),
)
chunks = st.tuples(
    st.just("chunk"),
    offsets_ns,
    seeds,
    spoils,
    st.integers(1, 10),
    st.sampled_from([DOF] * 8 + [DOF - 1]),
    st.sampled_from([STEP] * 8 + [STEP + 1]),
)
switches = st.tuples(st.sampled_from(["stop", "enable", "disable"]))
histories = st.lists(
    st.one_of(ticks, ticks, ticks, chunks, chunks, st.sampled_from([("again",)]), switches),
    min_size=1,
    max_size=40,
)


class Player:
    """Plays a history into a control loop and checks every command that comes out."""

    def __init__(self, hold):
        self.robot = dataclasses.replace(ROBOT, hold=hold)
        self.loop = ControlLoop(self.robot, JointLimits(self.robot))
        self.now_ns, self.last, self.plan, self.offered = 10**12, None, None, None
        self.running = 0

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
            self.plan = chunk

    def tick(self, step_ns, measured):
        self.now_ns += step_ns
        proprio, time_ns = None, None
        if measured is not None:
            seed, spoil, age_steps = measured
            proprio, time_ns = array(seed, DOF, spoil), self.now_ns + age_steps * STEP
        command = self.loop.tick(self.now_ns, proprio, time_ns)
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
            self.running += 1
            self.check_played(command)

    def check_played(self, command):
        """The step played is the one of the newest chunk that belongs to this very moment."""
        index = (command.time_ns - self.plan.observation_time_ns) // STEP
        assert 0 <= index < self.plan.horizon
        wanted = np.clip(self.plan.actions[index], LOWER, UPPER)
        if self.last is not None:
            wanted = np.clip(wanted, self.last - MAX_STEP, self.last + MAX_STEP)
            assert np.allclose(command.positions, wanted, rtol=0.0, atol=TOLERANCE)


@SETTINGS
@given(histories, st.sampled_from(HoldBehaviour))
def test_every_command_is_safe_and_no_stale_step_is_played(history, hold):
    player = Player(hold)
    for event in history:
        player.play(event)


@SETTINGS
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


@SETTINGS
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


def test_the_histories_do_reach_motion():
    """Guard the tests above: a steady history must run, or they would show nothing."""
    player = Player(HoldBehaviour.LAST_COMMAND)
    for k in range(20):
        player.play(("chunk", 0, k, None, 8, DOF, STEP))
        player.play(("tick", 0 if k == 0 else STEP, (k, None, 0)))
    assert player.running == 20
