"""An encoder that can't store a robot's images is refused before anything is recorded."""

import dataclasses

import pytest

from moxin_vla.core.errors import RecordingError
from moxin_vla.recording import codec as codec_module
from moxin_vla.recording.codec import Codec, choose_codec
from moxin_vla.recording.features import recording_features
from tests.recording.episodes import ROBOT, Session, loaded, open_store


def with_cameras(width, height):
    sized = (dataclasses.replace(c, width=width, height=height) for c in ROBOT.cameras)
    return dataclasses.replace(ROBOT, cameras=tuple(sized))


# what ffmpeg has but lerobot does not take, another spelling, sound, and nothing at all
@pytest.mark.parametrize("name", ["mpeg4", "libx264", "rawvideo", "H264", "png ", "aac", ""])
def test_an_encoder_that_lerobot_does_not_take_is_refused_with_the_known_ones(name):
    with pytest.raises(RecordingError) as refusal:
        choose_codec(name)
    said = str(refusal.value)
    assert said.startswith(f"The encoder '{name}' does not work here: Invalid vcodec '{name}'.")
    assert "Choose from: auto, png, h264, " in said


@pytest.mark.parametrize("name", ["h264", "hevc", "libsvtav1"])
def test_an_encoder_that_is_accepted_stores_an_episode(tmp_path, name):
    with Session(tmp_path / "dataset", codec=name) as session:
        session.record(0, rows=4)
    assert [(w.rows, w.failed) for w in session.written] == [(4, False)]
    assert len(loaded(tmp_path / "dataset")) == 4


@pytest.mark.parametrize(("width", "height"), [(97, 96), (96, 97), (97, 97)])
def test_video_of_an_odd_size_is_refused_before_a_folder_is_made(tmp_path, width, height):
    robot = with_cameras(width, height)
    with pytest.raises(RecordingError) as refusal:
        open_store(tmp_path / "dataset", robot=robot)
    assert str(refusal.value) == (
        f"Video wants even sizes: front {width}x{height}, wrist {width}x{height}. "
        "Change them, or record as png."
    )
    assert not (tmp_path / "dataset").exists()


def test_png_takes_odd_sizes():
    features = recording_features(with_cameras(97, 95), Codec("png", "").kind)
    assert features["observation.images.front"]["shape"] == (95, 97, 3)


def test_a_hardware_encoder_is_tried_with_the_robots_own_sizes(monkeypatch):
    tried = []

    def trouble(name, sizes):
        tried.append((name, list(sizes)))
        return "" if name == "h264_nvenc" and min(min(s) for s in sizes) >= 145 else "too small"

    monkeypatch.setattr(codec_module, "_trouble", trouble)
    assert choose_codec("auto", [(640, 480)]).name == "h264_nvenc"
    assert choose_codec("auto", [(640, 480), (96, 96)]).name == "h264"
    assert tried[-1] == ("h264_videotoolbox", [(640, 480), (96, 96)])
