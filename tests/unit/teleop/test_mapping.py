import dataclasses

import numpy as np
import pytest

from moxin_vla.core.embodiment import Gripper
from moxin_vla.core.types import frozen_array
from moxin_vla.teleop.base import OperatorInput, TeleopError
from moxin_vla.teleop.mapping import (
    FollowMapping,
    FullSpeed,
    GripperMapping,
    JointMapping,
    Reach,
)

PERIOD_S = 0.05
GRIPPER = 5
POSE = frozen_array([0.1, -0.5, 0.4, 0.3, 0.0, 0.4])  # frozen: nothing may change its argument
AS_FAST_AS_IT_GOES = FullSpeed(100.0, 100.0, 100.0, 100.0, 100.0)


@pytest.fixture
def slow(embodiment):
    joints = tuple(
        dataclasses.replace(joint, velocity=0.1 * (i + 1))
        for i, joint in enumerate(embodiment.joints)
    )
    return dataclasses.replace(embodiment, joints=joints)


@pytest.fixture(params=[(1.0, -0.1), (-0.1, 1.0)], ids=["opens upwards", "opens downwards"])
def either_way(request, embodiment):
    opened, closed = request.param
    return dataclasses.replace(embodiment, gripper=Gripper("gripper", opened, closed))


def rates(*joints: float, gripper: float = 0.0) -> OperatorInput:
    return OperatorInput(held=True, joints=np.array(joints), gripper=gripper)


def pointing(*target: float) -> OperatorInput:
    return OperatorInput(held=True, target=np.array(target))


def test_a_joint_moves_by_its_rate_and_the_others_stay(embodiment):
    mapping = JointMapping(embodiment, FullSpeed(joint_rad_s=1.0))
    moved = mapping.advance(POSE, rates(0.0, -0.5, 0.0, 0.0, 0.0), 1.0) - POSE
    assert moved.tolist() == pytest.approx([0.0, -0.5 * PERIOD_S, 0.0, 0.0, 0.0, 0.0])


@pytest.mark.parametrize("speed", [0.05, 0.5, 1.0])
def test_speed_is_the_share_of_full_speed(embodiment, speed):
    mapping = JointMapping(embodiment, FullSpeed(joint_rad_s=1.0, gripper_rad_s=2.0))
    moved = mapping.advance(POSE, rates(1.0, 1.0, 1.0, 1.0, 1.0, gripper=1.0), speed) - POSE
    assert moved / PERIOD_S == pytest.approx(speed * np.array([1.0, 1.0, 1.0, 1.0, 1.0, 2.0]))


def test_nothing_is_faster_than_the_embodiment_allows(slow):
    mapping = JointMapping(slow, AS_FAST_AS_IT_GOES)
    for sign in (1.0, -1.0):
        wanted = rates(*[sign] * 5, gripper=sign)
        moved = mapping.advance(POSE, wanted, 1.0) - POSE
        assert moved / PERIOD_S == pytest.approx(sign * slow.velocity_limit)


def test_rates_beyond_one_count_as_one(embodiment):
    mapping = JointMapping(embodiment, FullSpeed())
    most = mapping.advance(POSE, rates(1.0, -1.0, 1.0, 1.0, 1.0, gripper=-1.0), 1.0)
    more = mapping.advance(POSE, rates(7.0, -7.0, 1.0, 1.0, 1.0, gripper=-7.0), 1.0)
    assert np.array_equal(more, most)


def test_input_without_rates_moves_no_joint(embodiment):
    mapping = JointMapping(embodiment, FullSpeed())
    assert np.array_equal(mapping.advance(POSE, OperatorInput(held=True), 1.0), POSE)


def test_the_gripper_may_be_any_joint(embodiment):
    backwards = dataclasses.replace(embodiment, joints=embodiment.joints[::-1])
    mapping = JointMapping(backwards, FullSpeed(joint_rad_s=1.0, gripper_rad_s=2.0))
    moved = mapping.advance(POSE[::-1], rates(1.0, 0.0, 0.0, 0.0, 0.0, gripper=1.0), 1.0)
    expected = np.array([2.0, 1.0, 0.0, 0.0, 0.0, 0.0])
    assert (moved - POSE[::-1]) / PERIOD_S == pytest.approx(expected)


def test_the_gripper_opens_and_closes_as_far_as_open_and_closed(either_way):
    grip, low, high = GripperMapping(either_way, FullSpeed()), -0.1, 1.0
    for rate, end in ((1.0, either_way.gripper.open), (-1.0, either_way.gripper.closed)):
        target = POSE
        for _ in range(50):
            target = grip.advance(target, rate, 0.37)
            assert low <= target[GRIPPER] <= high
        assert target[GRIPPER] == end
        assert np.array_equal(target[:GRIPPER], POSE[:GRIPPER])


@pytest.mark.parametrize("rate", [1.0, 0.0, -1.0])
@pytest.mark.parametrize("at", [1.6, -0.17])
def test_a_gripper_left_beyond_open_or_closed_does_not_jump_back(embodiment, at, rate):
    beyond = frozen_array([*POSE[:GRIPPER], at])  # inside its limits: where a policy may put it
    grip = GripperMapping(embodiment, FullSpeed(gripper_rad_s=3.0))
    moved = grip.advance(beyond, rate, 0.05)[GRIPPER] - at
    assert abs(moved) <= 0.05 * 3.0 * PERIOD_S + 1e-12 and moved * rate >= 0.0


def test_a_leader_is_approached_slowly_and_then_followed_at_once(embodiment):
    follow = FollowMapping(embodiment, FullSpeed(align_rad_s=0.5), aligns=True)
    leader, target, steps = np.array([0.6, -0.5, 0.4, 0.3, 0.0, 0.1]), POSE, 0
    follow.begin(POSE)
    while not follow.aligned:
        following = follow.advance(target, pointing(*leader), 1.0)
        assert np.max(np.abs(following - target)) <= 0.5 * PERIOD_S + 1e-12
        target, steps = following, steps + 1
    assert steps == pytest.approx(0.5 / (0.5 * PERIOD_S), abs=3)
    leader[:] = 0.9, -0.1, 0.0, 0.3, 0.5, 0.4
    assert np.array_equal(follow.advance(target, pointing(*leader), 0.05), leader)


@pytest.mark.parametrize("joint", range(6))
def test_a_single_joint_elsewhere_is_enough_to_align(embodiment, joint):
    follow = FollowMapping(embodiment, FullSpeed(), aligns=True)
    leader = POSE.copy()
    leader[joint] += 0.3
    follow.begin(POSE)
    follow.advance(POSE, pointing(*leader), 1.0)
    assert not follow.aligned


def test_each_beginning_aligns_anew(embodiment):
    follow = FollowMapping(embodiment, FullSpeed(align_rad_s=0.5), aligns=True)
    follow.begin(POSE)
    follow.advance(POSE, pointing(*POSE), 1.0)
    assert follow.aligned
    follow.begin(POSE)
    moved = follow.advance(POSE, pointing(*POSE + 0.4), 1.0) - POSE
    assert not follow.aligned and moved == pytest.approx(np.full(6, 0.5 * PERIOD_S))


def test_aligning_is_not_faster_than_the_embodiment_allows(slow):
    follow = FollowMapping(slow, AS_FAST_AS_IT_GOES, aligns=True)
    moved = follow.advance(POSE, pointing(*POSE - 1.0), 1.0) - POSE
    assert moved / PERIOD_S == pytest.approx(-slow.velocity_limit)


def test_a_device_that_starts_at_the_arm_is_followed_from_the_start(embodiment):
    follow = FollowMapping(embodiment, FullSpeed(), aligns=False)
    follow.begin(POSE)
    assert follow.aligned
    assert np.array_equal(follow.advance(POSE, pointing(*POSE + 0.3), 1.0), POSE + 0.3)


@pytest.mark.parametrize("aligns", [True, False])
def test_without_a_target_there_is_nothing_to_follow(embodiment, aligns):
    follow = FollowMapping(embodiment, FullSpeed(), aligns)
    follow.begin(POSE)
    assert np.array_equal(follow.advance(POSE, OperatorInput(held=True), 1.0), POSE)
    assert follow.aligned is not aligns


def test_targets_stay_inside_the_position_limits(embodiment):
    reach = Reach(embodiment)
    for limit, outside in ((embodiment.position_upper, 9.0), (embodiment.position_lower, -9.0)):
        assert np.array_equal(reach.limit(np.full(6, outside), limit), limit)
        assert np.array_equal(reach.inside(np.full(6, outside)), limit)


def test_a_near_target_is_reached_as_it_is(embodiment):
    target = POSE + np.array([0.5, -0.5, 0.5, -0.5, 0.5, 0.5])
    assert np.array_equal(Reach(embodiment).limit(target, POSE), target)


@pytest.mark.parametrize(
    ("changes", "most_rad"),
    [({}, 4.0 * PERIOD_S * 3.0), ({"start_jump_rad": 0.2}, 0.2), ({"refuse_factor": 1.0}, 0.2)],
)
def test_a_far_target_is_as_near_as_control_node_takes_it(embodiment, changes, most_rad):
    rules = dataclasses.replace(embodiment.safety, **changes)
    reach = Reach(dataclasses.replace(embodiment, safety=rules))
    ahead = np.abs(reach.limit(np.full(6, -1.5), POSE) - POSE)[:GRIPPER]
    assert np.all(ahead < most_rad) and np.all(ahead > 0.8 * most_rad)


def test_the_gripper_may_be_sent_from_closed_to_open_at_once(embodiment):
    closed, opened = [*POSE[:GRIPPER], -0.1], [*POSE[:GRIPPER], 1.0]
    assert Reach(embodiment).limit(np.array(opened), np.array(closed))[GRIPPER] == 1.0


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(FullSpeed)])
def test_a_speed_that_is_not_positive_is_refused(name, value):
    with pytest.raises(TeleopError, match=rf"^{name} must be positive\. Got: {value}$"):
        FullSpeed(**{name: value})
