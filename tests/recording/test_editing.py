"""New datasets from parts of others hold the right rows with the right pictures."""

import hashlib
import json

import pytest

from moxin_vla.cli.main import main
from moxin_vla.core.dataset import Drove
from moxin_vla.core.errors import RecordingError
from moxin_vla.recording.editing import merge, take_episodes
from moxin_vla.recording.stored import StoredDataset
from tests.recording.episodes import ROBOT, Session, check_alignment, loaded
from tests.recording.sound import changed, pose, record


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Five episodes; 1 and 3 are successes, 2 was driven by an operator."""
    root = tmp_path_factory.mktemp("source") / "dataset"
    with Session(root) as session:
        session.record(0, rows=12, success=0)
        session.record(1, rows=15, success=1, instruction="touch the blue cube")
        session.record(2, rows=11, success=0, driver=Drove.OPERATOR)
        session.record(3, rows=18, success=1)
        session.record(4, rows=13, success=-1)
    return root


def content(root):
    files = sorted(f for f in root.rglob("*") if f.is_file())
    return {f.relative_to(root): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def origins(dataset):
    """Return which episodes of the source the episodes of a dataset are, by their stamps."""
    firsts = [int(e["dataset_from_index"]) for e in dataset.meta.episodes]
    return [int(dataset[i]["stamp.tick"]) // ROBOT.step_ns // 1000 for i in firsts]


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (["--success"], [1, 3]),
        (["--episodes", "0-2,4", "--drop", "1"], [0, 2, 4]),
        (["--driver", "operator"], [2]),
        (["--instruction", "blue"], [1]),
    ],
)
def test_a_filter_keeps_what_fits_can_be_extended_and_leaves_the_source_alone(
    source, tmp_path, words, kept
):
    before = content(source)
    out = tmp_path / "out"
    assert main(["dataset", "filter", str(source), str(out), *words]) == 0
    dataset = loaded(out)
    assert origins(dataset) == kept
    check_alignment(dataset)
    mark = json.loads((out / "meta" / "moxin_vla.json").read_text())
    assert mark["taken_from"] == {"dataset": "dataset", "episodes": kept}
    notes = sorted(p.name for p in (out / "meta" / "recording").iterdir())
    assert notes == [f"{i:06d}.json" for i in range(len(kept))]
    with Session(out) as session:  # its files keep the numbers that they had in the source
        for episode in (5, 6, 7):
            session.record(episode)
    dataset = loaded(out)
    assert origins(dataset) == [*kept, 5, 6, 7]
    check_alignment(dataset)
    assert content(source) == before


def test_waiting_episodes_and_those_with_errors_can_be_left_out(tmp_path):
    def spoil(k, r):
        if r.tick_ns < 40e9:  # episode 0 jumps
            return changed(r, command=r.command + 2.5 * (k == 20))
        if r.tick_ns < 80e9:  # episode 1 waits
            return changed(r, proprio=pose(max(k, 30)), command=pose(max(k, 30)))
        return r

    root = tmp_path / "dataset"
    record(root, spoil, episodes=3)
    for words, kept in ((["--sound"], [1, 2]), (["--max-idle", "0.3"], [0, 2])):
        out = tmp_path / words[0]
        assert main(["dataset", "filter", str(root), str(out), *words]) == 0
        assert origins(loaded(out)) == kept


def test_a_split_shares_all_episodes_out_and_is_the_same_again(source, tmp_path):
    words = ["dataset", "split", str(source)]
    for name in ("one", "two"):
        assert main([*words, str(tmp_path / name), "--parts", "train=0.6,test=0.4"]) == 0
    parts = {n: origins(loaded(tmp_path / "one" / n)) for n in ("train", "test")}
    assert [len(part) for part in parts.values()] == [3, 2]
    assert sorted([*parts["train"], *parts["test"]]) == [0, 1, 2, 3, 4]
    assert origins(loaded(tmp_path / "two" / "train")) == parts["train"]


def test_merged_datasets_are_one_that_can_be_extended(source, tmp_path):
    good, rest, both = tmp_path / "good", tmp_path / "rest", tmp_path / "both"
    take_episodes(StoredDataset(source), {good: [1, 3], rest: [0, 2]})
    assert main(["dataset", "merge", str(good), str(rest), "--out", str(both)]) == 0
    dataset = loaded(both)
    assert origins(dataset) == [1, 3, 0, 2]
    check_alignment(dataset)
    assert dataset[0]["task"] == "touch the blue cube" and dataset.meta.total_tasks == 2
    with Session(both) as session:
        session.record(5)
    dataset = loaded(both)
    assert origins(dataset) == [1, 3, 0, 2, 5]
    check_alignment(dataset)


def test_every_part_of_a_split_dataset_can_be_extended(source, tmp_path):
    words = ["dataset", "split", str(source), str(tmp_path), "--parts", "train=0.6,test=0.4"]
    assert main(words) == 0
    for part in (tmp_path / "train", tmp_path / "test"):
        former = origins(loaded(part))
        with Session(part) as session:
            session.record(7)
            session.record(8)
        dataset = loaded(part)
        assert origins(dataset) == [*former, 7, 8]
        check_alignment(dataset)


def test_what_can_not_be_done_is_refused_and_nothing_is_left(source, tmp_path, capsys):
    out, dataset = tmp_path / "out", StoredDataset(source)
    with pytest.raises(RecordingError, match="There is no episode 7; the dataset has 0 to 4"):
        take_episodes(dataset, {out: [1, 7]})
    with pytest.raises(RecordingError, match="No episode would go into"):
        take_episodes(dataset, {out: []})
    with pytest.raises(RecordingError, match="exists already"):
        take_episodes(dataset, {source: [1]})
    png = record(tmp_path / "png", codec="png")
    with pytest.raises(RecordingError, match=r"front: video \(96, 96, 3\).* and image \(96"):
        merge([dataset, png], out)
    assert main(["dataset", "filter", str(source), str(out), "--episodes", "a-b"]) == 2
    assert main(["dataset", "split", str(source), str(out), "--parts", "a=0.9,b=0.3"]) == 2
    said = capsys.readouterr().err
    assert "written like 0-9,12" in said and "at most 1 together" in said
    assert not out.exists() and sorted(p.name for p in tmp_path.iterdir()) == ["png"]


def test_a_result_inside_its_own_source_is_refused(source, capsys):
    before, inside = content(source), source / "data" / "part"
    for words in (
        ["filter", str(source), str(inside), "--episodes", "0"],
        ["split", str(source), str(inside.parent), "--parts", "part=0.5"],
        ["merge", str(source), str(source), "--out", str(inside)],
    ):
        assert main(["dataset", *words]) == 2
        refused = f"'{inside}' lies in its own source. Name a folder outside."
        assert refused in capsys.readouterr().err
    assert content(source) == before


def test_two_parts_of_one_name_are_refused(source, tmp_path, capsys):
    words = ["dataset", "split", str(source), str(tmp_path), "--parts", "a=0.5,a=0.5"]
    assert main(words) == 2
    assert "Every part needs a name of its own. Got: 'a=0.5,a=0.5'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def breaking(monkeypatch):
    """Let lerobot raise what is in the list, one for each result that it has written."""
    from lerobot.datasets import dataset_tools

    errors = []

    def breaks(name):
        real = getattr(dataset_tools, name)

        def call(*args):
            real(*args)
            if errors and (error := errors.pop(0)):
                raise error

        monkeypatch.setattr(dataset_tools, name, call)

    breaks("split_dataset")
    breaks("merge_datasets")
    return errors


def test_a_split_that_lerobot_fails_at_leaves_nothing_and_says_why(
    breaking, source, tmp_path, capsys
):
    breaking += [None, OSError("no space left")]
    assert main(["dataset", "split", str(source), str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert f"lerobot can't take episodes from {source} (OSError: no space left)" in said
    assert f"What is wrong: moxin-vla dataset check {source}" in said
    assert list(tmp_path.iterdir()) == []


def test_a_merge_that_lerobot_fails_at_leaves_nothing(breaking, source, tmp_path, capsys):
    breaking.append(ValueError("broken"))
    out = tmp_path / "out"
    assert main(["dataset", "merge", str(source), str(source), "--out", str(out)]) == 2
    assert "(ValueError: broken)" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_split_that_was_interrupted_leaves_nothing_and_can_be_run_again(
    breaking, source, tmp_path
):
    breaking += [None, KeyboardInterrupt()]
    words = ["dataset", "split", str(source), str(tmp_path)]
    assert main(words) == 130
    assert list(tmp_path.iterdir()) == []
    assert main(words) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["test", "train"]
