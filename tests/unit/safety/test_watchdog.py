"""Data that is too old, or stamped later than the clock, must not move the arm."""

import dataclasses
from pathlib import Path

import pytest

from moxin_vla.core.clock import FakeClock
from moxin_vla.core.embodiment import load_embodiment
from moxin_vla.safety.limits import JointLimits
from moxin_vla.safety.watchdog import SilenceWatchdog, StalenessWatchdog

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
