"""Data of a former episode does not count in the next one."""

from moxin_vla.runtime.cutoff import Cutoff

SECOND = 1_000_000_000


def test_everything_counts_before_the_first_cut():
    assert Cutoff(["front"]).admits(1, "front")


def test_what_was_stamped_before_the_cut_does_not_count():
    cutoff = Cutoff(["front", "joints"])
    cutoff.admits(5 * SECOND, "front")
    cutoff.admits(5 * SECOND + 1, "joints")
    cutoff.cut()
    stamps = [5 * SECOND, 5 * SECOND + 1, 5 * SECOND + 2]
    assert [cutoff.admits(stamp) for stamp in stamps] == [False, False, True]


def test_seen_is_the_stamp_that_every_stream_has_reached():
    cutoff = Cutoff(["front", "joints"])
    cutoff.admits(7, "joints")
    assert cutoff.seen_ns == 0
    cutoff.admits(5, "front")
    assert cutoff.seen_ns == 5


def test_a_clock_set_back_makes_everything_count():
    cutoff = Cutoff(["front"])
    cutoff.admits(100 * SECOND, "front")
    cutoff.cut()
    assert not cutoff.admits(99 * SECOND, "front")
    assert cutoff.admits(98 * SECOND, "front")
    assert cutoff.seen_ns == 98 * SECOND
