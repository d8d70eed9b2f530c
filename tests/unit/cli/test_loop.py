"""The loop calls our commands in order, remembers what is done, compares on equal scenes."""

import json
import subprocess
from types import SimpleNamespace

import pytest

from moxin_vla.cli import main


@pytest.fixture
def commands(monkeypatch):
    """Stand in for the commands: each must be one that our parser takes; evaluations end so."""
    called, ends = [], {"first": [False] * 8 + [True] * 2, "second": [True] * 10}
    ends["control"] = [False] * 5 + [True] * 5

    def call(words, check):
        assert words[1:3] == ["-m", "moxin_vla.cli.main"]
        args = main.build_parser().parse_args(words[3:])
        called.append(words[3])
        if words[3] == "record":
            scenes.append((args.dataset.name, args.seed, args.episodes))
            meta = args.dataset / "meta"
            meta.mkdir(parents=True, exist_ok=True)
            text = (meta / "info.json").read_text() if (meta / "info.json").is_file() else "{}"
            held = json.loads(text).get("total_episodes", 0)
            held += interrupted.pop() if interrupted else args.episodes
            (meta / "info.json").write_text(json.dumps({"total_episodes": held}))
        if words[3] == "eval":
            args.out.mkdir(parents=True)
            episodes = [{"success": s} for s in ends[args.out.parent.name]]
            text = json.dumps({"episodes": episodes})
            (args.out / "results.json").write_text(text, encoding="utf-8")
        return SimpleNamespace(returncode=1 if words[3] in failing else 0)

    failing: set[str] = set()
    scenes: list[tuple[str, int, int]] = []
    interrupted: list[int] = []
    monkeypatch.setattr(subprocess, "run", call)
    return SimpleNamespace(
        called=called, ends=ends, failing=failing, scenes=scenes, interrupted=interrupted
    )


def run(out, *words):
    return main.main(["loop", "--out", str(out), "--episodes", "10", *words])


STAGES = ["record", "dataset", "train", "eval", "record", "dataset", "train", "eval"]


def test_it_records_checks_trains_evaluates_corrects_and_compares(commands, tmp_path, capsys):
    assert run(tmp_path) == 0
    assert commands.called == STAGES
    said = capsys.readouterr().out
    assert "before the corrections 2 of 10, after them 10 of 10, on the same scenes: +80" in said
    assert "(won 8, lost 0)" in said


def test_what_is_done_is_not_done_again(commands, tmp_path, capsys):
    assert run(tmp_path) == 0
    assert run(tmp_path, "--control") == 0
    assert commands.called == [*STAGES, "train", "eval"]
    said = capsys.readouterr().out
    assert said.count("done before") == len(STAGES)
    assert "as long without them 5 of 10, with them 10 of 10" in said


def test_no_gain_is_told_by_the_exit_code(commands, tmp_path):
    commands.ends["second"] = [False] * 8 + [True] * 2
    assert run(tmp_path) == 1


def test_a_stage_that_fails_ends_it_and_is_named(commands, tmp_path, capsys):
    commands.failing.add("dataset")
    assert run(tmp_path) == 2
    assert "moxin-vla dataset check ended with 1" in capsys.readouterr().err
    assert commands.called == ["record", "dataset"]


@pytest.mark.parametrize("recorded", [0, 7, 15])
def test_a_recording_that_was_interrupted_goes_on_with_its_next_scene(
    recorded, commands, tmp_path
):
    commands.failing.add("record")
    commands.interrupted.append(recorded)
    assert run(tmp_path) == 2
    commands.failing.clear()
    assert run(tmp_path) == 0
    began, *then = [scene for scene in commands.scenes if scene[0] == "demonstrations"]
    assert began == ("demonstrations", 2_000_000, 15)
    rest = ("demonstrations", 2_000_000 + recorded, 15 - recorded)
    assert then == [rest][: 15 - recorded]


def test_a_recording_of_other_scenes_is_a_new_one(commands, tmp_path):
    commands.failing.add("record")
    commands.interrupted.append(7)
    assert run(tmp_path) == 2
    assert run(tmp_path, "--family", "place") == 2
    assert commands.scenes[-1] == ("demonstrations", 2_000_000, 15)


AGAIN = ["record", "dataset", "train", "eval", "train", "eval"]  # the corrections are kept


def test_more_demonstrations_are_checked_and_learned_anew(commands, tmp_path):
    assert run(tmp_path) == 0
    (tmp_path / "first" / "state.pt").touch()
    (tmp_path / "second" / "state.pt").touch()
    assert run(tmp_path, "--demonstrations", "80") == 0
    assert commands.called == [*STAGES, *AGAIN]
    assert not list(tmp_path.glob("*/state.pt"))  # nothing goes on from what it learned before


def test_training_that_was_interrupted_goes_on(commands, tmp_path):
    commands.failing.add("train")
    assert run(tmp_path) == 2
    state = tmp_path / "first" / "state.pt"
    state.parent.mkdir()
    state.touch()
    commands.failing.clear()
    assert run(tmp_path) == 0
    assert state.is_file()
