"""Evaluation on the real simulator, from the command line to the report."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("moxin_sim", reason="needs the simulator: pip install 'moxin_vla[sim]'")

from moxin_sim import Tabletop
from moxin_vla.cli.main import main
from moxin_vla.core.protocols import EpisodeSpec
from moxin_vla.core.resources import resource_path
from moxin_vla.evaluation.config import EvaluationConfig
from moxin_vla.evaluation.filming import film_failures
from moxin_vla.evaluation.rollout import EpisodeResult
from moxin_vla.evaluation.runner import plan_episodes, run_episodes

EMBODIMENT = resource_path("config/embodiments/so101_sim.yaml")


def run(**changes) -> list[EpisodeResult]:
    values = {"policy": "expert", "embodiment": EMBODIMENT, "families": ("touch", "pick")}
    config = EvaluationConfig(**(values | {"episodes": 2, "videos": 0} | changes))
    return run_episodes(config, plan_episodes(config), lambda result: None)


def evaluated(out: Path, *arguments: str) -> dict:
    assert main(["eval", *arguments, "--out", str(out)]) == 0
    return json.loads((out / "results.json").read_text())


def test_the_expert_is_evaluated_from_the_command_line_to_the_report(tmp_path, capsys):
    pytest.importorskip("av")
    content = evaluated(
        tmp_path, "expert", "--families", "pick", "--episodes", "2", "--videos", "1", "--listening"
    )
    episodes, pairs = content["episodes"], content["paired_episodes"]
    assert [e["success"] for e in episodes] == [True, True]
    assert [e["seed"] for e in pairs] == [0, 1] and all(e["success"] for e in pairs)
    for episode, pair in zip(episodes, pairs, strict=True):
        assert episode["instruction"] != pair["instruction"]
        assert episode["trajectory"] != pair["trajectory"]
    assert content["listening"]["followed"] == 2
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:video/mp4;base64,") == 1
    assert all(episode["instruction"] in page for episode in episodes)
    printed = capsys.readouterr().out
    assert "2/2" in printed and "It listens: 2 of 2" in printed
    assert f"Report: {(tmp_path / 'report.html').resolve()}" in printed


def test_what_stands_still_fails_is_filmed_and_says_why(tmp_path):
    pytest.importorskip("av")
    content = evaluated(
        tmp_path,
        *("scripted:hold", "--families", "touch", "--episodes", "3"),
        *("--videos", "0", "--failure-videos", "2", "--listening"),
    )
    assert [e["failure"] for e in content["episodes"]] == ["ran out of time"] * 3
    assert content["listening"]["trials"] == 0  # nothing succeeded, nothing to pair
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:video/mp4;base64,") == 2


def test_results_do_not_depend_on_the_number_of_workers_or_on_the_camera():
    alone, shared = run(), run(workers=2, videos=1)
    assert [len(r.frames) > 0 for r in shared] == [True, False, True, False]
    for one, other in zip(alone, shared, strict=True):
        assert (one.spec, one.status) == (other.spec, other.status)
        assert np.array_equal(one.proprio, other.proprio)
        assert np.array_equal(one.commands, other.commands)


def test_a_worker_that_is_killed_takes_no_result_with_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if '--multiprocessing-fork' in sys.argv or 'spawn_main' in ' '.join(sys.orig_argv):\n"
        "    os._exit(9)\n"
    )
    results = run(workers=2)
    assert len(results) == 4 and not any(result.success for result in results)
    assert all(result.failure.startswith("BrokenProcessPool: ") for result in results)


def test_one_world_at_a_time_has_a_renderer(monkeypatch):
    opened, closed = [], []
    monkeypatch.setattr(Tabletop, "__init__", _noted(Tabletop.__init__, opened))
    monkeypatch.setattr(Tabletop, "close", _noted(Tabletop.close, closed))
    for _ in range(2):
        run(episodes=1)
        assert len(opened) == len(closed)
    assert len(opened) == 2


def _noted(method, calls: list):
    def wrapped(self, *args, **kwargs):
        calls.append(id(self))
        return method(self, *args, **kwargs)

    return wrapped


def test_a_scene_that_cannot_be_set_up_is_a_failed_episode_among_others():
    config = EvaluationConfig("expert", EMBODIMENT, ("pick",), 1)
    (good, _), wrong = plan_episodes(config)[0], EpisodeSpec(0, "pick", "dance")
    results = run_episodes(config, [(wrong, False), (good, False)], lambda result: None)
    assert [result.success for result in results] == [False, True]
    assert results[0].failure.startswith("SimulationError: 'dance' is no instruction")


def test_the_film_of_a_failure_shows_the_run_that_failed():
    config = EvaluationConfig("scripted:sweep", EMBODIMENT, ("touch",), 1, videos=0)
    (failed,) = run_episodes(config, plan_episodes(config), lambda result: None)
    assert not failed.success and failed.frames == []
    (filmed,) = film_failures(config, [failed])
    assert len(filmed.frames) == -(-failed.status.step // 2)
    assert filmed.frames[0].shape == (240, 320, 3)
    assert not np.array_equal(filmed.frames[0], filmed.frames[5])
