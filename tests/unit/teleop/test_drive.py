import numpy as np
import pytest

from moxin_vla.core.types import CommitReason, frozen_array
from moxin_vla.safety.contract import ChunkContract
from moxin_vla.teleop.base import Mode, OperatorEvent, OperatorInput, TeleopError
from moxin_vla.teleop.drive import Arm, Drive, DriveStep, Phase
from moxin_vla.teleop.mapping import FollowMapping, FullSpeed, JointMapping

AT = frozen_array([0.1, -0.5, 0.4, 0.3, 0.0, 0.4])
ELSEWHERE = frozen_array(AT - [0.7, 0.0, 0.0, 0.0, 0.0, 0.0])
STEP = np.array([0.05, 0.0, 0.0, 0.0, 0.0, 0.0])  # of the first joint in a tick, at speed 1
AWAY, HERE = Arm(AT, operated=False), Arm(AT, operated=True)
SAYS_NOTHING, GIVES_BACK = DriveStep(), DriveStep(gave_back=True)


def stick(held: bool = True, *events: OperatorEvent) -> OperatorInput:
    return OperatorInput(held, joints=np.array([1.0, 0.0, 0.0, 0.0, 0.0]), events=events)


def points_to(target, held: bool = True) -> OperatorInput:
    return OperatorInput(held, target=np.asarray(target, float))


HELD, RELEASED = stick(), stick(held=False)
TAKE, GIVE_BACK = stick(False, OperatorEvent.TAKE), stick(False, OperatorEvent.GIVE_BACK)


@pytest.fixture
def make(embodiment):
    """Make the drive of a keyboard or pad; `modes=()` for a device that gives targets."""

    def make(modes=(Mode.JOINT,), aligns=False, speed=1.0, **how):
        full = FullSpeed(joint_rad_s=1.0, align_rad_s=0.5)
        mappings = {mode: JointMapping(embodiment, full) for mode in modes}
        follow = FollowMapping(embodiment, full, aligns)
        return Drive(embodiment, mappings, follow, speed=speed, **how)

    return make


def begun(drive: Drive, arm: Arm = HERE) -> Drive:
    """Take over, and let control_node agree; nothing has moved yet."""
    drive.update(TAKE, Arm(arm.measured, arm.commanded))
    drive.update(RELEASED, arm)
    assert drive.phase is Phase.DRIVING
    return drive


def test_only_the_beginning_of_holding_takes_over(make):
    drive = make()
    for wanted in (HELD, HELD, RELEASED):  # held already when it started
        assert drive.update(wanted, HERE) == drive.update(wanted, AWAY) == SAYS_NOTHING
        assert drive.phase is Phase.WATCHING and not drive.in_control
    assert np.array_equal(drive.update(HELD, AWAY).target, AT)
    assert drive.phase is Phase.TAKING


def test_a_dead_man_held_or_pressed_while_giving_back_does_not_take_over_again(make):
    drive, giving_back = begun(make()), stick(True, OperatorEvent.GIVE_BACK)
    drive.update(HELD, HERE)
    assert drive.update(giving_back, HERE) == GIVES_BACK
    for wanted in (HELD, RELEASED, giving_back, HELD, RELEASED):
        assert drive.update(wanted, HERE) == SAYS_NOTHING
    assert drive.update(HELD, HERE).target is not None
    drive.reset()
    assert drive.update(HELD, HERE) == SAYS_NOTHING and drive.target is None


def test_holding_a_device_without_dead_man_takes_nothing_over(make):
    drive = make(modes=(), holding_takes=False)
    drive.update(points_to(AT, held=False), AWAY)
    assert drive.update(points_to(AT), AWAY) == SAYS_NOTHING
    assert drive.update(TAKE, AWAY).target is not None


def test_while_taking_over_the_target_is_where_the_arm_is(make):
    drive = make()
    drive.update(TAKE, AWAY)
    for moved in (0.0, 0.1, 0.7):  # it still brakes
        assert np.array_equal(drive.update(HELD, Arm(AT + moved)).target, AT + moved)
        assert drive.phase is Phase.TAKING


def test_nothing_jumps_when_taken_again_before_control_node_was_free(make):
    drive = begun(make())
    drive.update(HELD, HERE)
    drive.update(GIVE_BACK, HERE)
    assert np.array_equal(drive.update(stick(True, OperatorEvent.TAKE), HERE).target, AT)


@pytest.mark.parametrize("let_go", [RELEASED, OperatorInput(), points_to(ELSEWHERE, held=False)])
def test_released_the_target_stops_at_once(make, let_go):
    drive = begun(make())
    for _ in range(3):
        last = drive.update(HELD, HERE).target
    assert last == pytest.approx(AT + 3 * STEP)
    for _ in range(5):
        assert np.array_equal(drive.update(let_go, HERE).target, last)
    assert drive.update(HELD, HERE).target == pytest.approx(AT + 4 * STEP)


@pytest.mark.parametrize("arm", [AWAY, HERE], ids=["while taking", "while driving"])
def test_control_is_given_back_once_when_released_for_too_long(make, arm):
    drive = make(give_back_after_ticks=3)
    drive.update(stick(True, OperatorEvent.TAKE), arm)
    for _ in range(3):
        assert drive.update(RELEASED, arm).target is not None
    assert drive.update(RELEASED, arm) == GIVES_BACK
    assert drive.update(RELEASED, arm) == SAYS_NOTHING


@pytest.mark.parametrize(("patience", "hold_every"), [(3, 3), (0, 1000)])
def test_control_is_kept_by_holding_now_and_then_or_without_patience(make, patience, hold_every):
    drive = begun(make(give_back_after_ticks=patience))
    for k in range(999):
        assert not drive.update(RELEASED if k % hold_every else HELD, HERE).gave_back


def test_control_is_given_back_once_when_asked(make):
    drive = begun(make())
    assert drive.update(GIVE_BACK, HERE) == GIVES_BACK
    assert drive.update(GIVE_BACK, HERE) == drive.give_back() == SAYS_NOTHING


@pytest.mark.parametrize("commanded", [AT - [0.2, 0.2, 0.0, 0.0, 0.0, 0.57], ELSEWHERE])
def test_driving_starts_from_the_last_command_unless_the_arm_is_far(make, commanded):
    target = begun(make(), Arm(AT, commanded, operated=True)).target
    assert np.array_equal(target, AT if commanded is ELSEWHERE else commanded)


@pytest.mark.parametrize("trusts", [True, False])
def test_nothing_is_said_while_nobody_knows_where_the_arm_is(make, trusts):
    drive = make(modes=(), trusts=trusts)
    drive.update(TAKE, Arm())
    for unknown in (Arm(), Arm(operated=True), Arm(commanded=AT, operated=True)):
        assert drive.update(points_to(AT + 0.1), unknown) == SAYS_NOTHING
    assert drive.update(RELEASED, HERE).target is not None


def test_control_taken_away_is_asked_for_again_from_where_the_arm_is(make):
    drive = begun(make())
    drive.update(HELD, HERE)
    assert np.array_equal(drive.update(HELD, Arm(ELSEWHERE)).target, ELSEWHERE)
    assert drive.phase is Phase.TAKING
    back = drive.update(HELD, Arm(ELSEWHERE, operated=True)).target
    assert back == pytest.approx(ELSEWHERE + STEP) and drive.phase is Phase.DRIVING


def test_the_target_does_not_run_away_from_an_arm_that_is_stuck(make):
    drive = begun(make())
    ahead = [drive.update(HELD, HERE).target[0] - AT[0] for _ in range(200)]
    assert 0.0 < ahead[-1] < 0.6  # control_node refuses steps beyond 3 times 4 rad/s


def test_an_arm_that_follows_comes_to_its_limit_and_not_beyond(make, embodiment):
    drive, target = begun(make()), AT
    for _ in range(60):
        target = drive.update(HELD, Arm(target, target, operated=True)).target
    assert target[0] == embodiment.position_upper[0]


def test_a_trusted_device_is_followed_while_control_is_still_handed_over(make):
    drive, there = make(modes=(), trusts=True, holding_takes=False), AT - 0.3
    assert np.array_equal(drive.update(TAKE, AWAY).target, AT)  # it points nowhere yet
    for arm, phase in ((AWAY, Phase.TAKING), (HERE, Phase.DRIVING)):
        assert np.array_equal(drive.update(points_to(there), arm).target, there)
        assert drive.phase is phase
    assert np.array_equal(drive.update(points_to(AT, held=False), HERE).target, there)


def test_a_trusted_device_that_points_far_away_leads_no_farther_than_is_followed(make, embodiment):
    drive, contract = make(modes=(), trusts=True), ChunkContract(embodiment)
    drive.update(TAKE, AWAY)
    outside = points_to(np.full(6, 9.0))
    arm = AT
    for _ in range(20):
        target = drive.update(outside, Arm(arm, arm, operated=True)).target
        assert contract.judge(target[None], None, arm) is CommitReason.ACCEPTED
        arm = target
    assert np.array_equal(arm, embodiment.position_upper)


def test_a_leader_aligns_slowly_and_then_leads(make):
    drive, target, steps = begun(make(modes=(), aligns=True)), AT, []
    while drive.aligning:
        arm = Arm(target, target, operated=True)
        target = drive.update(points_to(AT + 0.3), arm).target
        steps.append(np.max(np.abs(target - arm.measured)))
    assert len(steps) == pytest.approx(0.3 / 0.025, abs=3) and max(steps) <= 0.025 + 1e-12
    assert np.array_equal(drive.update(points_to(AT + 0.1), arm).target, AT + 0.1)


def test_a_leader_aligns_anew_once_control_was_taken_away(make):
    drive = begun(make(modes=(), aligns=True))
    drive.update(points_to(AT), HERE)
    assert not drive.aligning
    drive.update(points_to(AT + 0.3), AWAY)
    assert drive.update(points_to(AT + 0.3), HERE).target == pytest.approx(AT + 0.025)
    assert drive.aligning


@pytest.mark.parametrize(
    ("event", "once", "at_last"),
    [(OperatorEvent.FASTER, 0.625, 1.0), (OperatorEvent.SLOWER, 0.4, 0.05)],
)
def test_speed_changes_by_steps_within_bounds(make, event, once, at_last):
    drive = make(speed=0.5)
    drive.update(stick(False, event), AWAY)
    assert drive.speed == pytest.approx(once)
    drive.update(stick(False, *[event] * 50), AWAY)
    assert begun(drive).update(HELD, HERE).target == pytest.approx(AT + at_last * STEP)


@pytest.mark.parametrize("modes", [tuple(Mode), (Mode.JOINT,), ()])
def test_modes_take_turns(make, modes):
    drive, seen = make(modes), []
    for _ in range(3):
        drive.update(stick(False, OperatorEvent.MODE), AWAY)
        seen.append(drive.mode)
    other = Mode.END_EFFECTOR if len(modes) == 2 else Mode.JOINT
    assert seen == [other, Mode.JOINT, other]


def test_input_of_a_mode_that_the_robot_lacks_moves_nothing(make):
    twist = OperatorInput(held=True, twist=np.ones(6), gripper=1.0)
    assert np.array_equal(begun(make()).update(twist, HERE).target, AT)


@pytest.mark.parametrize(
    ("how", "broken"),
    [
        ({}, OperatorInput(held=True, joints=np.full(5, np.nan))),
        ({}, OperatorInput(held=True, joints=np.zeros(5), gripper=np.nan)),
        ({"aligns": True}, points_to([np.nan, *AT[1:]])),
        ({"aligns": False}, points_to([np.nan, *AT[1:]])),
        ({"trusts": True}, points_to([np.nan, *AT[1:]])),
    ],
    ids=["rates", "gripper", "aligning", "following", "trusted"],
)
def test_what_is_no_number_moves_nothing_and_leaves_no_trace(make, how, broken):
    drive = begun(make(**how))
    assert np.array_equal(drive.update(broken, HERE).target, AT)
    assert np.array_equal(drive.update(points_to(AT + 0.01), HERE).target, AT + 0.01)


def test_a_mode_or_speed_that_is_not_to_be_had_is_refused(make):
    with pytest.raises(TeleopError, match=r"There is no ee mode for this robot\."):
        make(mode=Mode.END_EFFECTOR)
    for speed in (0.04, 1.01, float("nan")):
        with pytest.raises(TeleopError, match=rf"must be in 0\.05 \.\. 1\. Got: {speed}"):
            make(speed=speed)
