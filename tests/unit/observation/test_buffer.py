"""A buffer keeps the newest values of one source by capture stamp."""

import pytest

from moxin_vla.observation.buffer import StampedBuffer


@pytest.fixture
def buffer():
    made = StampedBuffer(3)
    for time_ns in (10, 20, 30, 40):
        made.put(time_ns, str(time_ns))
    return made


def test_only_the_newest_are_kept(buffer):
    assert [entry.value for entry in buffer] == ["20", "30", "40"]
    assert buffer.newest() == (40, "40")


def test_as_of_never_looks_ahead(buffer):
    found = {t: buffer.as_of(t) for t in (19, 20, 39, 99)}
    assert {t: e and e.value for t, e in found.items()} == {19: None, 20: "20", 39: "30", 99: "40"}


def test_nearest_prefers_the_newer_of_two(buffer):
    assert [buffer.nearest(t).value for t in (0, 24, 25, 99)] == ["20", "20", "30", "40"]


def test_a_repeated_stamp_replaces_the_value(buffer):
    buffer.put(40, "again")
    assert [entry.value for entry in buffer] == ["20", "30", "again"]


def test_a_stamp_that_goes_back_forgets_the_former_run_of_the_clock(buffer):
    buffer.put(5, "5")
    assert [entry.value for entry in buffer] == ["5"]


def test_an_empty_buffer_finds_nothing(buffer):
    buffer.reset()
    assert (buffer.newest(), buffer.as_of(99), buffer.nearest(99)) == (None, None, None)
