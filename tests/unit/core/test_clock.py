"""Time is injected and counted in integer nanoseconds."""

from moxin_vla.core.clock import FakeClock, SteadyClock, seconds_to_ns


def test_seconds_round_to_the_nearest_nanosecond():
    assert seconds_to_ns(0.05) == 50_000_000
    assert seconds_to_ns(1e-9 * 0.6) == 1
    assert isinstance(seconds_to_ns(0.1), int)


def test_steady_clock_never_goes_back():
    clock = SteadyClock()
    stamps = [clock.now_ns() for _ in range(100)]
    assert stamps == sorted(stamps)


def test_fake_clock_moves_only_when_told():
    clock = FakeClock(7)
    assert (clock.now_ns(), clock.now_ns()) == (7, 7)
    clock.advance_ns(5)
    clock.advance_ns(-10)
    assert clock.now_ns() == 2
