"""What somebody who records asks for, and what becomes of it when something breaks."""

import time
from collections import deque

import pytest

from moxin_vla.recording import session as session_module
from moxin_vla.recording.intake import Intake
from moxin_vla.recording.recorder import Recorder
from moxin_vla.recording.session import RecordingSession
from tests.recording.episodes import ROBOT, loaded, open_store
from tests.recording.messages import STEP, image, joints, target, tick


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

    def feed(self, ticks, who="policy"):
        for k in ticks:
            for topic, message in tick(k, who):
                self.session.take(topic, message)

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


def test_ticks_between_start_and_stop_are_the_episode(root):
    with Desk(root) as desk:
        desk.feed(range(5))
        assert desk.session.start().done
        desk.feed(range(5, 12))
        assert desk.session.mark(1).text == "episode 0 is marked a success"
        assert desk.session.stop().done
        desk.feed(range(12, 20))
        desk.written(1)
    dataset = loaded(root)
    assert [int(dataset[i]["stamp.tick"]) // STEP for i in range(len(dataset))] == [*range(5, 12)]
    assert int(dataset[0]["record.success"]) == 1
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
    dataset = loaded(root)
    assert [int(row["stamp.tick"]) // STEP for row in dataset] == [*range(last + 1)]


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
    dataset = loaded(root)
    assert [int(dataset[i]["stamp.tick"]) // STEP for i in range(len(dataset))] == [*range(3, 10)]


def test_a_camera_that_stops_ends_the_episode_where_it_stopped_being_good(root):
    with Desk(root) as desk:
        desk.session.start()
        desk.feed(range(5))
        for k in range(5, 60):
            for topic, message in tick(k):
                if topic != ROBOT.cameras[1].topic:
                    desk.session.take(topic, message)
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
