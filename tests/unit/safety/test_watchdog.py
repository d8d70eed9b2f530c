"""Data that is too old, or stamped later than the clock, must not move the arm."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from moxin_vla.core.clock import FakeClock
from moxin_vla.core.embodiment import load_embodiment
from moxin_vla.safety.limits import JointLimits
from moxin_vla.safety.watchdog import FrozenImageWatchdog, SilenceWatchdog, StalenessWatchdog

ROBOT = load_embodiment(Path(__file__).parents[3] / "config" / "embodiments" / "so101_sim.yaml")


@pytest.mark.parametrize(
    ("age_ns", "fresh"),
    [
        (0, True),
        (250_000_000, True),
        (250_000_001, False),
        (-250_000_000, True),
        (-250_000_001, False),
    ],
)
def test_age_decides_on_either_side_of_the_clock(age_ns, fresh):
    clock = FakeClock(10_000_000_000)
    stamp_ns = clock.now_ns()
    clock.advance_ns(age_ns)
    assert StalenessWatchdog(0.25).fresh(stamp_ns, clock.now_ns()) is fresh


def test_the_limits_take_the_age_from_the_embodiment():
    allowed = dataclasses.replace(ROBOT.watchdog, proprio_max_age_s=0.1)
    limits = JointLimits(dataclasses.replace(ROBOT, watchdog=allowed))
    assert limits.fresh(0, 100_000_000) and not limits.fresh(0, 100_000_001)


def test_silence_is_counted_in_ticks_of_a_running_clock():
    watchdog = SilenceWatchdog(3)
    assert [watchdog.tick(now) for now in (1, 2, 3, 4)] == [True, True, True, False]
    watchdog.heard()
    assert watchdog.tick(5)
    assert all(watchdog.tick(5) for _ in range(10)), "a paused simulator is not silent"


def image(value):
    return np.full((4, 4, 3), value, np.uint8)


def look(watchdog, ticks, value=lambda k: 7, joint=lambda k: 0.1 * k):
    frozen = [
        watchdog.frozen(k * 100_000_000, image(value(k)), np.array([joint(k), 0.0]))
        for k in range(ticks)
    ]
    return frozen


def test_the_same_pixels_while_the_arm_moves_are_a_frozen_camera():
    assert look(FrozenImageWatchdog(0.5), 8) == [False] * 6 + [True] * 2


def test_the_same_pixels_while_the_arm_rests_are_not():
    assert not any(look(FrozenImageWatchdog(0.5), 30, joint=lambda k: 0.001))


def test_changing_pixels_are_not_frozen_and_end_a_freeze():
    watchdog = FrozenImageWatchdog(0.5)
    assert not any(look(watchdog, 30, value=lambda k: k))
    watchdog.reset()
    assert look(watchdog, 8)[-1]
    assert not watchdog.frozen(900_000_000, image(8), np.array([0.9, 0.0]))


def test_the_same_image_again_is_no_freeze():
    watchdog = FrozenImageWatchdog(0.5)
    assert not any(watchdog.frozen(0, image(7), np.array([0.1 * k, 0.0])) for k in range(9))
