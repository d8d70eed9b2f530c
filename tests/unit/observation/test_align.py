"""Images and joints are matched by capture stamp, or the gap is put in words."""

import numpy as np
import pytest

from moxin_vla.observation.align import Gap, align
from moxin_vla.observation.buffer import StampedBuffer

MS = 1_000_000


def buffer(*stamps_ms):
    """Return a buffer whose values tell their own stamps."""
    made = StampedBuffer(8)
    for stamp in stamps_ms:
        made.put(stamp * MS, np.array([stamp]))
    return made


def aligned(front, wrist, joints):
    """Return the stamps in [ms] that were matched: (observation, front, wrist, proprio)."""
    images = {"front": buffer(*front), "wrist": buffer(*wrist)}
    found = align(images, buffer(*joints), tolerance_ns=25 * MS, proprio_max_age_ns=100 * MS)
    if isinstance(found, Gap):
        return found.reason
    stamps = (found.images["front"], found.images["wrist"], found.proprio)
    return (found.time_ns // MS, *(int(value[0]) for value in stamps))


def test_equal_stamps_match():
    assert aligned([0, 50], [0, 50], [0, 50]) == (50, 50, 50, 50)


def test_the_oldest_image_of_the_set_gives_the_time():
    assert aligned([0, 50], [10, 60], [0, 45, 55]) == (50, 50, 60, 45)


def test_the_newest_complete_set_is_taken_when_a_camera_lags():
    assert aligned([0, 50, 100], [0, 50], [0, 50, 100]) == (50, 50, 50, 50)


def test_a_dropped_image_falls_back_to_the_set_before():
    assert aligned([0, 100], [0, 50], [0, 50, 100]) == (0, 0, 0, 0)


def test_proprio_is_never_newer_than_the_images():
    assert aligned([50], [50], [40, 51, 52]) == (50, 50, 50, 40)


@pytest.mark.parametrize(
    ("front", "wrist", "joints", "reason"),
    [
        ([], [], [], "no image yet from: front, wrist"),
        ([0], [], [0], "no image yet from: wrist"),
        ([200], [0], [0], "images do not match: 'wrist' is 0.200 s behind, allowed 0.025 s"),
        ([50], [50], [], "no joint state yet"),
        (
            [50],
            [50],
            [60, 80],
            "no joint state as old as the images: the newest is 0.030 s newer",
        ),
        (
            [200],
            [200],
            [99, 250],
            "proprio is stale: 0.101 s older than the images, allowed 0.100 s",
        ),
    ],
)
def test_a_gap_says_what_is_lacking(front, wrist, joints, reason):
    assert aligned(front, wrist, joints) == reason


def test_limits_are_inclusive():
    assert aligned([200], [225], [100]) == (200, 200, 225, 100)
