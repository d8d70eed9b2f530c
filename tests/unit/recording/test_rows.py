"""Rows show what was captured by their tick, and every image is accounted for."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moxin_vla.core.dataset import Drove
from moxin_vla.core.embodiment import load_embodiment
from moxin_vla.core.errors import RecordingError
from moxin_vla.recording.rows import JOINTS, RowAssembler

ARM = load_embodiment(Path(__file__).parents[3] / "config" / "embodiments" / "so101_sim.yaml")
ROBOT = dataclasses.replace(
    ARM, watchdog=dataclasses.replace(ARM.watchdog, camera_max_age_s=0.3, proprio_max_age_s=0.2)
)
MS = 1_000_000
TICK = 50 * MS


def picture(value, size=4):
    return np.full((size, size, 3), value % 256, np.uint8)


class Robot:
    """Publishes at chosen moments; what an image or a joint state shows is its stamp in [ms]."""

    def __init__(self, **how):
        self.rows = RowAssembler(ROBOT, **how)
        self.rows.instruction = "wave"

    def image(self, camera, ms, size=4):
        self.rows.put_image(camera, ms * MS, picture(ms, size))

    def images(self, ms):
        for camera in ROBOT.camera_names:
            self.image(camera, ms)

    def joints(self, ms):
        self.rows.put_joints(ms * MS, np.full(6, float(ms)))

    def command(self, ms, driver=Drove.POLICY, age_ms=30.0):
        self.rows.put_request(ms * MS, driver, np.full(6, ms + 0.5), age_ms)
        self.rows.put_command(ms * MS, np.full(6, float(ms)))

    def tick(self, ms):
        self.images(ms)
        self.joints(ms)
        self.command(ms)


@pytest.fixture
def robot():
    robot = Robot()
    robot.rows.begin()
    return robot


def shown(row):
    return [int(row.image_ns[c] / MS) for c in ROBOT.camera_names]


def test_a_row_shows_what_was_newest_at_its_tick_and_nothing_from_the_future(robot):
    for ms in (0, 33, 66, 99):
        robot.images(ms)
    for ms in range(0, 110, 10):
        robot.joints(ms)
    robot.command(50)
    (row,) = robot.rows.rows()
    assert (row.tick_ns, shown(row), row.proprio_ns) == (50 * MS, [33, 33], 50 * MS)
    assert row.images["front"][0, 0, 0] == 33 and row.proprio[0] == 50.0
    assert (row.command[0], row.requested[0], row.driver) == (50.0, 50.5, Drove.POLICY)
    assert (row.instruction, row.chunk_age_ms) == ("wave", 30.0)


def test_a_row_waits_until_every_stream_has_got_to_its_tick(robot):
    robot.images(0)
    robot.joints(0)
    robot.command(50)
    assert robot.rows.rows() == []
    robot.images(50)
    assert robot.rows.rows() == []
    robot.joints(50)
    assert [shown(row) for row in robot.rows.rows()] == [[50, 50]]


def test_the_order_of_arrival_does_not_matter(robot):
    robot.command(50)
    robot.joints(50)
    robot.image("wrist", 50)
    robot.image("front", 40)
    robot.image("front", 60)
    (row,) = robot.rows.rows()
    assert shown(row) == [40, 50]


def test_a_command_without_word_of_who_asked_waits_for_it_and_then_goes_on(robot):
    robot.images(0)
    robot.joints(0)
    robot.rows.put_command(0, np.zeros(6))
    assert robot.rows.rows() == []
    for ms in range(50, 650, 50):
        robot.tick(ms)
    rows = robot.rows.rows()
    assert (rows[0].tick_ns, rows[0].driver) == (0, Drove.NOBODY)
    assert rows[0].requested.tolist() == rows[0].command.tolist()
    assert len(rows) == 13


def test_repeated_and_dropped_images_are_counted(robot):
    robot.images(0)
    for ms in range(0, 301, 10):
        robot.joints(ms)
    for ms in (0, 50, 100, 150, 200):
        robot.command(ms)
    for ms in (110, 120, 130, 205, 255):  # none for the ticks 50 and 100, three before 150
        robot.images(ms)
    rows = robot.rows.rows()
    assert [shown(row)[0] for row in rows] == [0, 0, 0, 130, 130]
    assert [row.repeated[0] for row in rows] == [False, True, True, False, True]
    front = robot.rows.counts["front"]
    assert (front.received, front.used, front.repeated, front.dropped) == (6, 2, 3, 2)


def test_an_image_older_than_one_before_is_late_and_not_used(robot):
    robot.image("front", 40)
    robot.image("front", 20)
    assert robot.rows.counts["front"].late == 1


def test_ticks_before_every_camera_has_begun_make_no_rows(robot):
    robot.joints(0)
    robot.image("front", 0)
    robot.command(0)
    for ms in range(50, 700, 50):
        robot.tick(ms)
    rows = robot.rows.rows()
    assert robot.rows.skipped_ticks == 1 and rows[0].tick_ns == TICK


def test_a_dead_camera_ends_the_episode_after_its_last_good_row(robot):
    robot.tick(0)
    for ms in range(50, 1200, 50):
        robot.image("front", ms)
        robot.joints(ms)
        robot.command(ms)
    rows = robot.rows.rows()
    assert rows[-1].tick_ns == 300 * MS
    with pytest.raises(RecordingError, match=r"Nothing new from wrist: .* 0.350 s old"):
        robot.rows.rows()


def test_a_camera_that_changes_its_resolution_is_refused(robot):
    robot.tick(0)
    with pytest.raises(RecordingError, match="'wrist' changed its resolution from 4x4 to 8x8"):
        robot.image("wrist", 50, size=8)


def test_a_clock_that_goes_back_is_refused(robot):
    robot.tick(500)
    with pytest.raises(RecordingError, match=r"The clock went back by 0.450 s"):
        robot.command(50)


def test_after_the_clock_was_set_back_the_next_episode_records(robot):
    robot.tick(5000)
    robot.rows.end()
    robot.images(0)
    robot.joints(0)
    robot.rows.begin()
    robot.tick(50)
    assert [shown(row) for row in robot.rows.rows()] == [[50, 50]]


def test_after_the_clock_was_set_back_a_little_no_row_shows_the_future(robot):
    robot.tick(500)
    assert len(robot.rows.rows()) == 1
    robot.rows.begin(after_ns=100 * MS)
    for ms in range(150, 701, 50):
        robot.tick(ms)
    # of what came again nothing is newer than what came before
    assert [shown(row)[0] for row in robot.rows.rows()] == [550, 600, 650, 700]


def test_a_clock_that_begins_anew_after_the_start_begins_the_episode(robot):
    robot.tick(50_000)
    robot.rows.begin(robot.rows.last_tick_ns)
    robot.tick(0)
    robot.tick(50)
    assert [(row.tick_ns, shown(row)[0]) for row in robot.rows.rows()] == [(0, 0), (TICK, 50)]


def test_what_the_first_row_waits_for_is_named(robot):
    robot.image("front", 0)
    for ms in range(5000, 6000, 50):
        robot.image("wrist", ms)
        robot.command(ms)
    assert robot.rows.rows() == []
    assert robot.rows.waits_for == ["front", JOINTS] and robot.rows.lacks == [JOINTS]
    robot.rows.begin()
    assert robot.rows.waits_for == []


def test_images_that_come_while_nobody_commands_are_counted_as_dropped(robot):
    robot.tick(0)
    robot.rows.rows()
    for ms in range(50, 2000, 50):
        robot.images(ms)
    robot.tick(2000)
    assert len(robot.rows.rows()) == 1
    front = robot.rows.counts["front"]
    assert (front.received, front.used, front.dropped) == (41, 2, 39)


def test_an_episode_begins_after_the_tick_it_was_asked_for_and_may_show_what_came_before():
    robot = Robot()
    robot.images(90)
    robot.joints(90)
    robot.rows.begin(after_ns=100 * MS)
    robot.command(100)
    robot.command(150)
    robot.images(160)
    robot.joints(160)
    (row,) = robot.rows.rows()
    assert (row.tick_ns, shown(row), row.repeated) == (150 * MS, [90, 90], (False, False))


def test_memory_stays_bounded_while_nothing_is_recorded():
    robot = Robot()
    for ms in range(0, 60_000, 33):
        robot.images(ms)
    assert len(robot.rows._images["front"].waiting) < 40


def test_the_end_of_an_episode_takes_what_is_there(robot):
    robot.tick(0)
    robot.images(40)
    robot.joints(40)
    robot.command(50)
    robot.rows.end()
    robot.command(100)
    assert [row.tick_ns for row in robot.rows.rows(final=True)] == [0, TICK]


@given(st.permutations(range(24)), st.integers(0, 49))
def test_any_order_of_arrival_within_the_grace_gives_the_same_rows(order, shift):
    def messages():
        for k in range(6):
            yield lambda robot, k=k: robot.image("front", 50 * k + shift)
            yield lambda robot, k=k: robot.image("wrist", 50 * k)
            yield lambda robot, k=k: robot.joints(50 * k)
            yield lambda robot, k=k: robot.command(50 * k)

    def play(indices):
        robot = Robot()
        robot.rows.begin()
        rows = []
        made = list(messages())
        for index in indices:
            made[index](robot)
            rows += robot.rows.rows()
        robot.rows.end()
        rows += robot.rows.rows(final=True)
        return [(r.tick_ns, shown(r), r.proprio_ns, r.driver, r.repeated) for r in rows]

    in_order = sorted(order, key=lambda index: (order.index(index) // 4, index))
    straight = play(range(24))
    # within a stream DDS keeps the order; between streams anything goes
    streams = {kind: iter(range(kind, 24, 4)) for kind in range(4)}
    mixed = [next(streams[index % 4]) for index in in_order]
    assert play(mixed) == straight
