"""What somebody who records asks for, and what becomes of it when something breaks."""

import json
import shutil
import time
from collections import deque

import pytest

from moxin_vla.recording import session as session_module
from moxin_vla.recording import store as store_module
from moxin_vla.recording.intake import Intake
from moxin_vla.recording.recorder import Recorder
from moxin_vla.recording.session import RecordingSession
from tests.recording.episodes import ROBOT, loaded, open_store
from tests.recording.messages import STEP, image, joints, target, tick

FRONT = ROBOT.cameras[0].topic
COMMANDS = ("/control_node/action", "/control_node/command")


class Desk:
    """A session with everything it says and announces."""

    def __init__(self, root, instruction="pick up the red cube"):
        store = open_store(root, codec="png")
        self.said, self.bounds, written = [], [], deque()
        self.recorder = Recorder(store, ROBOT, written.append)
        self.session = RecordingSession(
            Intake(ROBOT, instruction),
            self.recorder,
            written,
            store.episodes,
            lambda text, trouble: self.said.append((text, trouble)),
            lambda bounds: self.bounds.append(dict(bounds)),
            dict,
        )

    def feed(self, ticks, who="policy", without=()):
        for k in ticks:
            for topic, message in tick(k, who):
                if topic not in without:
                    self.session.take(topic, message)

    def waiting(self):
        """Return of how many moments images and joints are kept."""
        return max(len(s.waiting) for s in self.session._rows._streams.values())

    def written(self, episodes):
        """Wait until so many episodes are part of the dataset, or lost."""
        deadline = time.monotonic() + 60
        while self.session.episodes + self.session.lost < episodes:
            assert time.monotonic() < deadline
            self.session.look()
            time.sleep(0.01)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.recorder.close()


@pytest.fixture
def root(tmp_path):
    return tmp_path / "dataset"


def ticks_of(root):
    return [int(row["stamp.tick"]) // STEP for row in loaded(root)]


def test_ticks_between_start_and_stop_are_the_episode(root):
    with Desk(root) as desk:
        desk.feed(range(5))
        assert desk.session.start().done
        desk.feed(range(5, 12))
        assert desk.session.mark(1).text == "episode 0 is marked a success"
        assert desk.session.stop().done
        desk.feed(range(12, 20))
        desk.written(1)
    assert ticks_of(root) == [*range(5, 12)]
    assert int(loaded(root)[0]["record.success"]) == 1
    begin, end = desk.bounds
    assert (begin["event"], begin["after_ns"]) == ("begin", 4 * STEP)
    assert (end["event"], end["up_to_ns"], end["success"]) == ("end", 11 * STEP, 1)


@pytest.mark.parametrize(
    ("how", "last"),
    [
        pytest.param({"up_to_ns": 14 * STEP}, 14, id="time goes on"),
        pytest.param({"up_to_ns": 2**62, "waits": True}, 19, id="time stands still"),
    ],
)
def test_ticks_that_are_on_their_way_at_the_end_belong_to_it(root, how, last):
    with Desk(root) as desk:
        assert desk.session.start().done
        desk.feed(range(5))
        assert desk.session.stop(**how).done
        for k in range(5, 20):
            desk.feed([k])
            desk.session.look()
        desk.written(1)
    assert ticks_of(root) == [*range(last + 1)]


def test_orders_that_make_no_sense_now_are_refused_in_words(root):
    with Desk(root, instruction="") as desk:
        assert (
            "no instruction: publish it on /policy_node/instruction" in desk.session.start().text
        )
        assert desk.session.stop().text == "no episode is being recorded"
        assert desk.session.discard().text == "no episode is being recorded"
        assert desk.session.mark(0).text == "no episode is being recorded"


def test_a_discarded_episode_is_announced_and_gone(root):
    with Desk(root) as desk:
        desk.session.start()
        desk.feed(range(5))
        assert desk.session.discard().text.endswith("rows are discarded")
    assert [bounds["event"] for bounds in desk.bounds] == ["begin", "discard"]
    with open_store(root, codec="png") as store:
        assert store.episodes == 0


BROKEN = {
    "resolution": (
        lambda k: (ROBOT.cameras[0].topic, image(k * STEP, size=64)),
        "Camera 'front' changed its resolution from 96x96 to 64x64.",
    ),
    "joint": (
        lambda k: (ROBOT.joint_states_topic, joints(k * STEP, names=ROBOT.joint_names[1:])),
        "Joint state lacks: shoulder_pan",
    ),
    "clock": (
        lambda k: ("/control_node/command", target(STEP)),
        "The clock went back by",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_breaks_ends_the_episode_and_keeps_its_good_rows(root, what):
    message, expected = BROKEN[what]
    with Desk(root) as desk:
        desk.session.start()
        desk.feed(range(3, 10))
        desk.session.take(*message(10))
        assert not desk.session.recording
        assert expected in desk.session.trouble
        desk.written(1)
        assert desk.session.start().done  # the next one can be recorded
        desk.session.discard()
    assert ticks_of(root) == [*range(3, 10)]


def test_a_camera_that_stops_ends_the_episode_where_it_stopped_being_good(root):
    with Desk(root) as desk:
        desk.session.start()
        desk.feed(range(5))
        for k in range(5, 60):
            desk.feed([k], without=[ROBOT.cameras[1].topic])
            if not desk.session.recording:
                break
        assert "Nothing new from wrist" in desk.session.trouble
        desk.written(1)
    dataset = loaded(root)
    allowed = ROBOT.watchdog.camera_max_age_s * 1e9
    ages = [int(row["stamp.tick"]) - int(row["stamp.wrist"]) for row in dataset]
    assert len(dataset) >= 5 and max(ages) <= allowed
    assert [list(row["record.repeated"].tolist()) for row in dataset][-1] == [0, 1]


def test_commands_that_stop_end_the_episode(root, monkeypatch):
    monkeypatch.setattr(session_module, "_SILENT_S", 0.05)
    with Desk(root) as desk:
        desk.session.start()
        desk.feed(range(5))
        time.sleep(0.1)  # nobody commands
        desk.session.look()
        assert desk.session.trouble == "no command from control_node for 0.05 s"
        desk.written(1)
    assert len(loaded(root)) == 5


def test_without_rows_too_commands_that_stop_end_the_episode(root, monkeypatch):
    monkeypatch.setattr(session_module, "_SILENT_S", 0.0)
    with Desk(root) as desk:
        desk.session.start()
        desk.feed(range(5), without=[FRONT])
        desk.session.look()
        assert desk.session.trouble == "no command from control_node for 0 s"
        desk.written(1)
    assert desk.session.trouble.endswith(
        "It ended: no command from control_node for 0 s; nothing that fits the ticks' stamps "
        "came from: front"
    )


def test_a_start_while_the_last_episode_is_ending_is_told_to_wait(root):
    with Desk(root) as desk:
        desk.session.start()
        desk.feed(range(5))
        assert "an episode is being recorded; stop it first" in desk.session.start().text
        desk.session.stop(up_to_ns=9 * STEP)
        assert desk.session.start() == (
            False,
            "the last episode is just ending; try again in a moment",
        )
        desk.session.finish("asked to")
        assert desk.session.start().done


def test_that_a_former_episode_failed_does_not_end_the_present_one(root):
    with Desk(root) as desk:
        desk.session.start()
        desk.feed([0])  # too short to be kept
        desk.session.finish("asked to")
        assert desk.session.start().done
        desk.feed(range(1, 6))
        desk.written(1)
        assert desk.session.recording
        assert desk.said[-1] == (
            "the episode of 1 rows is lost: It has 1 rows; an episode needs 2. It ended: asked to",
            True,
        )
        desk.feed(range(6, 9))
        desk.session.finish("asked to")
        desk.written(2)
    assert ticks_of(root) == [*range(1, 9)]


def test_an_episode_that_waits_to_join_is_not_said_to_be_lost(root, monkeypatch):
    failures = iter([OSError("the disk is away")])
    real = store_module.put_in_place

    def put_in_place(folder, root):
        for failure in failures:
            raise failure
        real(folder, root)

    monkeypatch.setattr(store_module, "put_in_place", put_in_place)
    with Desk(root) as desk:
        for ticks in (range(5), range(5, 10)):
            desk.session.start()
            desk.feed(ticks)
            desk.session.finish("asked to")
        desk.written(2)
    troubles = [text for text, trouble in desk.said if trouble]
    assert len(troubles) == 1 and troubles[0].startswith("The episode is safe in")
    assert desk.session.lost == 0 and ticks_of(root) == [*range(10)]


def discarded(desk):
    desk.feed([10], without=[FRONT])  # its row waits for an image
    desk.session.discard()


def broken(desk):
    desk.feed(range(10, 60), without=[FRONT])
    assert "Nothing new from front" in desk.session.trouble


@pytest.mark.parametrize("ended", [discarded, broken])
def test_memory_stays_bounded_after_an_episode_with_ticks_that_made_no_row(root, ended):
    with Desk(root) as desk:
        desk.session.start()
        desk.feed(range(10))
        ended(desk)
        assert not desk.session.recording
        desk.feed(range(60, 200), without=COMMANDS)
        assert desk.waiting() <= 40


def full(desk, monkeypatch):
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10_000_000))
    desk.recorder._looked_s = 0.0


def slow(desk, monkeypatch):
    desk.recorder._most = -1


@pytest.mark.parametrize(
    ("trouble", "told"),
    [(full, "The disk is nearly full: 10 MB left"), (slow, "Writing can't keep up")],
)
def test_what_ends_an_episode_while_rows_are_waiting_leaves_no_hole(
    root, monkeypatch, trouble, told
):
    with Desk(root) as desk:
        desk.session.start()
        desk.feed(range(10))
        desk.feed(range(10, 13), without=[FRONT])
        trouble(desk, monkeypatch)
        desk.session.take(FRONT, image(10 * STEP))  # row 10 is complete; 11 and 12 wait
        assert not desk.session.recording and told in desk.session.trouble
        assert desk.session.rows == 13
        desk.written(1)
    assert ticks_of(root) == [*range(13)]


def test_an_end_before_the_last_tick_says_why(root):
    with Desk(root) as desk:
        desk.session.start()
        desk.feed(range(20))
        desk.feed(range(20, 46), without=[FRONT])
        assert desk.session.recording  # the last rows still wait for images
        desk.session.finish("asked to")
        desk.written(1)
    assert ticks_of(root) == [*range(40)]
    note = json.loads((root / "meta/recording/000000.json").read_text())
    assert note["ended"] == (
        "asked to; Nothing new from front: the newest of 'front' is 1.050 s old, allowed 1 s."
    )
    assert desk.bounds[-1]["why"] == note["ended"]
