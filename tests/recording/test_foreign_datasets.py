"""Other people's datasets, and broken ones: the check says what is wrong and never breaks."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from moxin_vla.cli.main import main
from moxin_vla.core.resources import resource_path
from moxin_vla.recording.stored import StoredDataset
from tests.recording.episodes import ROBOT
from tests.recording.sound import picture, record

FRONT = "observation.images.front"
AGAINST = [
    "--checkpoint",
    str(resource_path("checkpoints/moxin-nano-so101")),
    "--embodiment",
    str(resource_path("config/embodiments/so101_sim.yaml")),
]


def foreign(root, rows=(20, 20), dims=(6, 6), names=None, video=False, switch=(), left_open=None):
    """Write a dataset as lerobot alone does.

    Args:
        root: Where to.
        rows: Of each episode.
        dims: Of proprio and action.
        names: Of the action's dims.
        video: Whether all episodes share a video.
        switch: Dims of the action that are only ever -1 or 1.
        left_open: Gets the dataset, whose writers are not closed then.
    """
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    features = {
        "observation.state": {"dtype": "float32", "shape": dims[:1], "names": None},
        "action": {"dtype": "float32", "shape": dims[1:], "names": names},
    }
    if video:
        sides = ["height", "width", "channels"]
        features[FRONT] = {"dtype": "video", "shape": (96, 96, 3), "names": sides}
    made = LeRobotDataset.create(
        "somebody/something", 20, features, root, ROBOT.name, use_videos=video
    )
    for episode, count in enumerate(rows):
        for k in range(count):
            proprio, action = (
                0.3 * np.sin(0.1 * (k + i) + 0.7 * np.arange(size) + episode)
                for i, size in enumerate(dims)
            )
            action[list(switch)] = 1.0 if k > count // 2 else -1.0
            frame = {"observation.state": proprio, "action": action}
            frame = {name: values.astype(np.float32) for name, values in frame.items()}
            shown = {FRONT: picture(k)} if video else {}
            made.add_frame(frame | shown | {"task": "pick up the red cube"})
        made.save_episode()
    if left_open is None:
        made.finalize()
    else:
        left_open.append(made)
    return root


@pytest.fixture
def left_open():
    """Hold datasets until the test is over: their own end closes their writers."""
    held = []
    yield held
    for dataset in held:
        dataset.finalize()


@pytest.fixture
def check(capsys, tmp_path):
    """Return a dataset's errors as the command says them; a report is written, too."""

    def call(root, *words):
        page = tmp_path / "report.html"
        code = main(["dataset", "check", str(root), *words, "--html", str(page), "--json"])
        findings = json.loads(capsys.readouterr().out)["findings"]
        errors = [f for f in findings if f["severity"] == "error"]
        assert code == (1 if errors else 0)
        assert page.read_text(encoding="utf-8").startswith("<!")
        return [f"{f['episode']} {f['column']}: {f['what']}" for f in errors]

    return call


def test_a_gripper_that_is_open_or_closed_does_not_jump(tmp_path, check):
    assert check(foreign(tmp_path / "d", (60, 60), (7, 7), switch=[6])) == []


def test_names_that_are_places_are_put_in_order(tmp_path, check):
    names = {"delta_y": 1, "delta_x": 0, **{f"joint_{i}": i for i in range(2, 6)}}
    root = foreign(tmp_path / "d", names=names)
    assert StoredDataset(root).labels("action")[:3] == ("delta_x", "delta_y", "joint_2")
    assert check(root) == []


@pytest.mark.parametrize("dims", [(7, 7), (14, 6), (14, 7)])
def test_dims_that_a_checkpoint_does_not_have_are_said(tmp_path, check, dims):
    said = check(foreign(tmp_path / "d", dims=dims), *AGAINST)
    for key, size in zip(("observation.state", "action"), dims, strict=True):
        assert any(
            line.startswith(f"None {key}: is {', '.join(map(str, range(size)))}; 'so101_sim' has")
            for line in said
        )
    assert any("'moxin-nano-so101' was made for shoulder_pan" in line for line in said)
    assert not any("outside" in line for line in said)  # nothing to compare


@pytest.mark.parametrize("words", [[], AGAINST], ids=["alone", "against a checkpoint"])
def test_a_dataset_without_episodes_is_said(tmp_path, check, words):
    said = check(foreign(tmp_path / "d", ()), *words)
    assert "None None: there is no episode" in said


@pytest.mark.parametrize("words", [[], AGAINST], ids=["alone", "against a checkpoint"])
def test_a_dataset_whose_writers_were_not_closed_is_said(tmp_path, left_open, check, words):
    said = check(foreign(tmp_path / "d", left_open=left_open), *words)
    assert any("data/chunk-000/file-000.parquet can't be read" in line for line in said)


def test_a_lost_frame_of_a_shared_video_condemns_all_its_episodes(tmp_path, check, capsys):
    root, short = foreign(tmp_path / "d", (20,) * 3, video=True), tmp_path / "short"
    foreign(short, (19, 20, 20), video=True)
    (lost,) = short.rglob("*.mp4")
    shutil.copyfile(lost, root / lost.relative_to(short))
    said = [line for line in check(root) if "holds 59 frames for 60 rows" in line]
    assert [line.split()[:2] for line in said] == [[str(i), f"{FRONT}:"] for i in range(3)]
    out = tmp_path / "out"
    assert main(["dataset", "filter", str(root), str(out), "--sound"]) == 2
    assert "No episode would go into" in capsys.readouterr().err and not out.exists()


def test_an_image_that_can_not_be_decoded_is_said(tmp_path, check):
    root = record(tmp_path / "d", codec="png").root
    (file,) = (root / "data").rglob("*.parquet")
    rows = parquet.read_table(file)
    place, images = rows.column_names.index(FRONT), rows[FRONT].to_pylist()
    images[0]["bytes"] = images[0]["bytes"][:50]
    kind = rows.schema.field(FRONT)
    parquet.write_table(rows.set_column(place, kind, pa.array(images, kind.type)), file)
    (said,) = check(root)
    assert said.startswith(f"0 {FRONT}: the image of '{FRONT}' at row 0 of episode 0 can't be ")


@pytest.mark.parametrize("content", ["{", "[]"])
def test_what_our_recorder_wrote_of_itself_may_be_broken(tmp_path, check, content):
    root = record(tmp_path / "d", codec="png").root
    (root / "meta" / "moxin_vla.json").write_text(content, encoding="utf-8")
    assert check(root) == []
