"""Each check finds its fault, says where, and finds nothing in a sound dataset."""

import dataclasses
import json

import numpy as np
import pyarrow.parquet as parquet
import pytest

from moxin_vla.cli.main import main
from moxin_vla.core.errors import RecordingError
from moxin_vla.recording.quality.check import check, own_expectation
from moxin_vla.recording.quality.expected import Bounds, Expected, Reference
from moxin_vla.recording.quality.findings import Severity
from moxin_vla.recording.stored import StoredDataset
from tests.recording.episodes import ROBOT
from tests.recording.sound import ROWS, changed, picture, pose, record, sound_row

AGAINST = Expected(ROBOT)
TICK_RAD = 2 * np.pi / 4096  # of an STS3215's encoder


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return record(tmp_path_factory.mktemp("sound") / "dataset", episodes=2)


def found(dataset, expected=AGAINST, worst=Severity.WARNING):
    """Return what was found, in words, notes left out unless asked for."""
    skipped = {Severity.WARNING: (Severity.NOTE,), Severity.NOTE: ()}[worst]
    return [
        f"{f.severity} {f.episode} {f.column}: {f.what} [{f.where}]"
        for f in check(dataset, expected)
        if f.severity not in skipped
    ]


def flickering(k, flicker):
    """Return the pose at row k as encoders read it that flicker by a tick."""
    return TICK_RAD * (np.round(pose(k) / TICK_RAD) + (flicker + np.arange(6)) % 2)


def test_nothing_is_found_in_a_sound_dataset(sound):
    assert found(sound, worst=Severity.NOTE) == []
    assert found(sound, Expected()) == []


def test_encoders_that_flicker_while_the_arm_moves_are_sound(tmp_path):
    dataset = record(tmp_path / "d", lambda k, row: changed(row, proprio=flickering(k, k)))
    assert found(dataset, worst=Severity.NOTE) == []


def test_without_an_embodiment_the_datasets_own_is_taken(tmp_path):
    import yaml

    from moxin_vla.core.resources import resource_path

    content = yaml.safe_load(
        resource_path("config/embodiments/so101_sim.yaml").read_text(encoding="utf-8")
    )
    dataset = record(tmp_path / "d")
    assert own_expectation(dataset) == Expected()
    mark = tmp_path / "d" / "meta" / "moxin_vla.json"
    mark.write_text(json.dumps({"embodiment": {"name": "so101_sim", "content": content}}))
    assert own_expectation(StoredDataset(tmp_path / "d")).embodiment == ROBOT


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        pytest.param(
            lambda k, row: changed(row, images={**row.images, "wrist": picture(min(k, 15), 1)}),
            "error 0 observation.images.wrist: the picture stands still while",
            id="frozen camera",
        ),
        pytest.param(
            lambda k, row: changed(row, images={**row.images, "front": picture(0) * 0}),
            "error 0 observation.images.front: 16 of 16 sampled pictures show nothing",
            id="covered camera",
        ),
        pytest.param(
            lambda k, row: changed(row, command=row.command + (k == 20)),
            "error 0 action.shoulder_pan: jumps 1.0",
            id="jump",
        ),
        pytest.param(
            lambda k, row: changed(row, proprio=row.proprio + 3.0 * (k == 20)),
            "error 0 observation.state.shoulder_pan: jumps 3.0",
            id="wrong reading",
        ),
        pytest.param(
            lambda k, row: changed(row, command=row.command[[1, 0, 2, 3, 4, 5]]),
            "error None action.shoulder_pan: follows shoulder_lift of observation.state",
            id="swapped joints",
        ),
        pytest.param(
            lambda k, row: changed(row, proprio=pose(max(k, 15)), command=pose(max(k, 15) + 1)),
            "warning 0 action: waits 0.8 s before it begins to move [rows 0-15",
            id="late start",
        ),
        pytest.param(
            lambda k, row: changed(
                row, proprio=flickering(max(k, 25), k), command=pose(max(k, 25) + 1)
            ),
            "warning 0 action: waits 1.1 s before it begins to move [rows 0-20",
            id="late start, flickering encoders",
        ),
        pytest.param(
            lambda k, row: changed(row, proprio=pose(0), command=pose(0)),
            "error 0 action: nothing moves",
            id="nothing moves",
        ),
        pytest.param(
            lambda k, row: changed(
                row,
                command=np.array([*row.command[:1], ROBOT.position_upper[1], *row.command[2:]]),
            ),
            "warning 0 action.shoulder_lift: at its position limit in 100%",
            id="at the limit",
        ),
        pytest.param(
            lambda k, row: None if 10 <= k < 13 else row,
            "warning 0 stamp.tick: 3 ticks are missing in 1 gaps, the longest 0.20 s [row 10",
            id="gap",
        ),
        pytest.param(
            lambda k, row: changed(
                row, image_ns={**row.image_ns, "wrist": row.tick_ns + 2_000_000 * (k == 5)}
            ),
            "error 0 stamp.wrist: stamped up to 2.0 ms after the tick: from the future [row 5",
            id="from the future",
        ),
        pytest.param(
            lambda k, row: changed(row, image_ns={**row.image_ns, "front": 990_000_000}),
            "error 0 stamp.front: 39 images have the stamp of the row before and are not counted",
            id="uncounted repeats",
        ),
        pytest.param(
            lambda k, row: changed(row, proprio=np.where(k == 7, np.nan, row.proprio)),
            "error 0 observation.state: not finite in 1 rows: shoulder_pan",
            id="NaN",
        ),
        pytest.param(
            lambda k, row: changed(
                row, proprio=np.degrees(row.proprio), command=np.degrees(row.command)
            ),
            "error 0 action.gripper: is from",
            id="degrees",
        ),
    ],
)
def test_it_is_found_and_said_where(tmp_path, spoil, says):
    said = found(record(tmp_path / "dataset", spoil))
    assert any(line.startswith(says) for line in said), said


def test_without_an_embodiment_a_jump_is_one_that_is_unlike_all_other_steps(tmp_path):
    def spoil(k, row):
        return changed(row, command=row.command + 2.0 * (k == 20 and row.tick_ns < 40e9))

    said = found(record(tmp_path / "dataset", spoil, episodes=2), Expected())
    assert any("jumps 2.0" in line and "far more than any usual step" in line for line in said)


def test_rows_without_an_instruction_are_found(tmp_path):
    dataset = record(tmp_path / "dataset", lambda k, row: changed(row, instruction=""))
    assert "error 0 task: rows without an instruction []" in found(dataset)


def test_a_dataset_of_another_robot_is_found(sound):
    joints = (dataclasses.replace(ROBOT.joints[0], name="base"), *ROBOT.joints[1:])
    camera = dataclasses.replace(ROBOT.cameras[0], name="top")
    other = dataclasses.replace(
        ROBOT,
        name="other_arm",
        control_rate_hz=30.0,
        joints=joints,
        cameras=(camera, ROBOT.cameras[1]),
        kinematics=None,
        safety=dataclasses.replace(ROBOT.safety, workspace=None),
    )
    said = "\n".join(found(sound, Expected(other)))
    assert "None fps: is 20; 'other_arm' has 30" in said
    assert "None action: is shoulder_pan, " in said and "'other_arm' has base, " in said
    assert "observation.images.top: is missing; the dataset has: front, wrist" in said


def test_what_a_checkpoint_does_not_know_is_found(sound):
    def reference(low, high):
        bounds = Bounds(np.full(6, low), np.full(6, high))
        relative = np.array([True] * 5 + [False])
        names, cameras = ROBOT.joint_names, ROBOT.camera_names
        return Reference("known", names, cameras, 20.0, 8, bounds, None, relative)

    wide, narrow = (Expected(None, reference(*b)) for b in ((-2.0, 2.0), (1.5, 1.6)))
    assert found(sound, wide) == []
    said = found(sound, narrow)
    assert len(said) == 6
    assert "'known' knows 1.50 to 1.60: 100% outside" in said[0]


def test_files_that_do_not_agree_are_found(tmp_path):
    root = tmp_path / "dataset"
    record(root, episodes=3)
    data = sorted((root / "data").rglob("*.parquet"))
    parquet.write_table(parquet.read_table(data[0]).slice(0, ROWS - 2), data[0])
    data[1].write_bytes(data[1].read_bytes()[:-100])
    videos = sorted((root / "videos/observation.images.wrist").rglob("*.mp4"))
    videos[0].unlink()
    videos[2].write_bytes(videos[1].read_bytes()[:5000])
    said = "\n".join(found(StoredDataset(root)))
    assert "error 0 None: meta declares 40 rows, the data file holds 38" in said
    assert "data/chunk-000/file-001.parquet can't be read" in said
    assert "info.json declares 120 rows, the files hold 78" in said
    assert "videos/observation.images.wrist/chunk-000/file-000.mp4 is missing" in said
    assert "file-002.mp4" in said and "can't be read" in said


def test_a_lost_frame_in_a_video_is_found(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    record(one, lambda k, row: None if k == 39 else row)
    record(other)
    place = "videos/observation.images.front/chunk-000/file-000.mp4"
    (other / place).write_bytes((one / place).read_bytes())
    said = "\n".join(found(StoredDataset(other)))
    assert "holds 39 frames for 40 rows: from the lost frame on, every row shows the wrong" in said


def test_what_is_no_dataset_is_refused(tmp_path):
    with pytest.raises(RecordingError, match="No dataset at"):
        StoredDataset(tmp_path)
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "info.json").write_text(
        json.dumps({"codebase_version": "v2.1", "features": {}, "fps": 20})
    )
    with pytest.raises(RecordingError, match=r"has version v2.1. Expected: v3.0"):
        StoredDataset(tmp_path)


def test_the_command_says_it_writes_a_page_and_answers_with_its_exit_code(sound, tmp_path, capsys):
    page = tmp_path / "report.html"
    assert main(["dataset", "check", str(sound.root), "--html", str(page)]) == 0
    assert "nothing wrong was found" in capsys.readouterr().out
    text = page.read_text(encoding="utf-8")
    assert 'src="http' not in text and 'href="http' not in text
    assert text.count("data:image/jpeg;base64,") == 2 * 2 * 6  # episodes, cameras, pictures
    assert text.count("<polyline") == 2 * 6 * 2
    broken = tmp_path / "broken"
    record(broken, lambda k, row: changed(row, command=row.command + (k == 20)))
    robot = ["--embodiment", "config/embodiments/so101_sim.yaml"]
    assert main(["dataset", "check", str(broken), *robot, "--json"]) == 1
    content = json.loads(capsys.readouterr().out)
    assert content["facts"]["rows"] == "40 at 20 Hz, 2 s"
    assert {f["severity"] for f in content["findings"]} == {"error"}
    assert sound_row(0).instruction in content["facts"]["instructions"]
