import pytest

from moxin_vla.core.clock import seconds_to_ns
from moxin_vla.teleop.keys import (
    INTERRUPT,
    RELEASES_ARE_TOLD,
    Change,
    HeldKeys,
    KeyDecoder,
    Stroke,
)


def decoded(*pieces: bytes) -> list[Stroke]:
    decoder = KeyDecoder()
    return [stroke for piece in pieces for stroke in decoder.decode(piece)]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (b"w", [Stroke("w")]),
        (b"W1", [Stroke("w"), Stroke("1")]),
        (b" \x7f\r", [Stroke("space"), Stroke("backspace"), Stroke("enter")]),
        (b"\x03", [Stroke(INTERRUPT)]),
        (b"\x1b[A\x1b[D", [Stroke("up"), Stroke("left")]),
        (b"\x1b[119u", [Stroke("w")]),
        (b"\x1b[119;1:3u", [Stroke("w", Change.RELEASE)]),
        (b"\x1b[119;1:2uq", [Stroke("w", Change.REPEAT), Stroke("q")]),
        (b"\x1b[1;1:3A", [Stroke("up", Change.RELEASE)]),
        (b"\x1b[99;5u", [Stroke(INTERRUPT)]),
        (b"\x1b[119;5u", []),  # Ctrl-W is no w
        (b"\x1b[?11u", [Stroke(RELEASES_ARE_TOLD)]),
        (b"\x1b[?0u", []),  # it answers, but does not tell
        (b"\x1b[200~", []),
        (b"\x1bw", [Stroke("w")]),
        (b"\x01\xff", []),
    ],
)
def test_bytes_become_keys(typed, expected):
    assert [s for s in decoded(typed) if s.key != "ÿ"] == expected


@pytest.mark.parametrize("cut", range(1, 11))
def test_a_sequence_that_arrives_in_pieces_is_one_key(cut):
    typed = b"\x1b[119;1:3u"
    assert decoded(typed[:cut], typed[cut:]) == [Stroke("w", Change.RELEASE)]


def at(seconds: float) -> int:
    return seconds_to_ns(seconds)


def test_without_releases_a_key_is_down_as_long_as_it_repeats():
    held = HeldKeys()
    for step in range(10):
        held.put(Stroke("w"), at(step * 0.04))
        assert held.down(at(step * 0.04 + 0.03)) == {"w"}
    assert held.down(at(0.36 + 0.14)) == {"w"}
    assert held.down(at(0.36 + 0.16)) == frozenset()


def test_without_releases_only_the_first_of_a_row_goes_down():
    held = HeldKeys()
    went_down = [held.put(Stroke("n"), at(t)) for t in (0.0, 0.1, 0.2, 1.0)]
    assert went_down == [True, False, False, True]


def told() -> HeldKeys:
    held = HeldKeys()
    assert not held.put(Stroke(RELEASES_ARE_TOLD), 0)
    return held


def test_with_releases_a_key_is_down_until_its_release():
    held = told()
    assert held.put(Stroke("w"), at(0.0))
    assert held.down(at(0.5)) == {"w"}
    held.put(Stroke("w", Change.RELEASE), at(0.51))
    assert held.down(at(0.52)) == frozenset()


def test_with_releases_a_repetition_goes_down_no_second_time():
    held = told()
    assert held.put(Stroke("n"), at(0.0))
    assert not held.put(Stroke("n", Change.REPEAT), at(0.3))


def test_a_repetition_keeps_every_held_key_down():
    held = told()
    held.put(Stroke("w"), at(0.0))
    held.put(Stroke("a"), at(0.5))
    for step in range(20):
        held.put(Stroke("a", Change.REPEAT), at(1.0 + step * 0.04))
    assert held.down(at(1.8)) == {"w", "a"}


def test_a_lost_release_ends_after_a_second():
    held = told()
    held.put(Stroke("w"), at(0.0))
    assert held.down(at(0.99)) == {"w"}
    assert held.down(at(1.01)) == frozenset()
