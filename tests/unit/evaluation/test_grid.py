"""A grid: cells that are kept, taken up again, compared and shown."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from moxin_vla.core.embodiment import load_embodiment
from moxin_vla.evaluation import grid
from moxin_vla.evaluation.cells import Cell, EpisodeRecord, load_cells, save_cell
from moxin_vla.evaluation.config import EvaluationConfig, EvaluationError
from moxin_vla.evaluation.grid_report import (
    Grid,
    print_grid,
    write_grid_html,
    write_grid_json,
)
from moxin_vla.evaluation.rollout import broken_episode
from moxin_vla.runtime.delay import DelayError

ROBOT = Path(__file__).resolve().parents[3] / "config" / "embodiments" / "so101_sim.yaml"


def cell(joiner, delay, wins, trials=10, fingerprint="abc", **changes):
    episodes = tuple(
        EpisodeRecord(
            "pick", i, i < wins, "" if i < wins else "dropped <it>", 2.0, (0.1,), 5.0, 1, 2, 3, 8.0
        )
        for i in range(trials)
    )
    made = Cell(joiner, delay, "nano", fingerprint, {"seeds": "0 to 9"}, {"python": "3"}, episodes)
    return replace(made, **changes)


CELLS = [
    cell("naive", "4", 1),
    cell("naive", "0", 10),
    cell("synchronous", "4", 10),
    cell("decay_blend", "spiky:1:2:3", 5),
]


def test_a_cell_comes_back_as_it_was_kept(tmp_path):
    for one in CELLS:
        save_cell(tmp_path, one)
    assert sorted(load_cells(tmp_path), key=str) == sorted(CELLS, key=str)


def test_a_file_that_is_no_cell_is_refused(tmp_path):
    (tmp_path / "x.json").write_text('{"schema": 99}')
    with pytest.raises(EvaluationError, match=r"x.json' is no cell of a grid"):
        load_cells(tmp_path)


def test_methods_and_delays_are_in_order_and_success_is_compared_with_no_delay():
    ordered = Grid(CELLS)
    assert ordered.methods == ["synchronous", "naive", "decay_blend"]
    assert ordered.delays == ["0", "4", "spiky:1:2:3"]
    assert ordered.kept("naive", CELLS[0]) == pytest.approx(0.1)
    assert ordered.kept("synchronous", CELLS[2]) != ordered.kept("synchronous", CELLS[2])  # NaN


def test_two_policies_are_two_methods():
    both = Grid([cell("prefix", "4", 5, fingerprint="old"), cell("prefix", "4", 9)])
    assert both.methods == ["prefix (abc)", "prefix (old)"]


def test_pairs_are_the_same_episodes_under_the_same_delay():
    tests = Grid(CELLS).pairs("4")
    assert set(tests) == {("synchronous", "naive"), ("naive", "synchronous")}
    better = tests["synchronous", "naive"]
    assert (better.wins, better.losses, better.verdict) == (9, 0, "better")


def test_the_report_and_the_results_hold_every_cell(tmp_path):
    write_grid_html(tmp_path / "r.html", "Title", CELLS, 50_000_000)
    page = (tmp_path / "r.html").read_text()
    for text in (
        "10 / 10",
        "spiky:1:2:3",
        "9 : 0, 51",
        "dropped &lt;it&gt; (9)",
        "0 to 9",
        "<svg",
        "10.0 %",
    ):
        assert text in page, text
    write_grid_json(tmp_path / "r.json", CELLS)
    content = json.loads((tmp_path / "r.json").read_text())
    assert [c["successes"] for c in content["cells"]] == [10, 10, 1, 5]
    assert content["cells"][2]["kept"] == 0.1 and content["cells"][0]["kept"] is None
    assert content["paired_tests"][0]["e_value"] == pytest.approx(51.2)


def test_the_table_says_what_is_decided(capsys):
    print_grid(Console(width=80), CELLS)
    printed = capsys.readouterr().out
    assert "d = 4: synchronous is better than naive, 9 to 0, E = 51" in printed
    assert "2.00 s" in printed
    assert re.search(r"naive +4 +1/10 +", printed), "nothing is squeezed out of a narrow terminal"


@pytest.fixture
def asked(monkeypatch):
    """Replace the simulator: every episode is a failure; returns what was asked for."""
    calls, robot = [], load_embodiment(ROBOT)

    def play(console, config, episodes, verbose, label):
        calls.append((config.joiner, config.delay))
        return [broken_episode(spec, robot, "not played") for spec, _ in episodes]

    monkeypatch.setattr(grid, "play", play)
    return calls


def config(**changes):
    values = {"policy": "scripted:hold", "embodiment": ROBOT, "families": ("pick",), "episodes": 2}
    return EvaluationConfig(**(values | changes))


def test_what_was_measured_is_not_measured_again(asked, tmp_path):
    pytest.importorskip("moxin_sim")
    grid.evaluate_grid(config(), ["0", "4"], ["naive"], tmp_path, "T")
    cells = grid.evaluate_grid(config(), ["0", "4"], ["naive", "gated"], tmp_path, "T")
    assert asked == [("naive", "0"), ("naive", "4"), ("gated", "0"), ("gated", "4")]
    assert len(cells) == 4 and len(cells[0].episodes) == 2
    assert "gated" in (tmp_path / "report.html").read_text()


def test_other_episodes_do_not_go_into_the_same_grid(asked, tmp_path):
    pytest.importorskip("moxin_sim")
    grid.evaluate_grid(config(), ["0"], ["naive"], tmp_path, "T")
    with pytest.raises(EvaluationError) as refused:
        grid.evaluate_grid(config(first_seed=50), ["4"], ["naive"], tmp_path, "T")
    assert str(refused.value) == (
        "The folder holds naive at delay 0, measured with seeds per family 0 to 1. "
        "Expected: 50 to 51. Repeat it as it was, or choose another --out."
    )
    assert asked == [("naive", "0")]


def test_a_delay_that_cannot_be_bridged_is_refused_before_anything_is_played(asked, tmp_path):
    with pytest.raises(DelayError, match="at most 8"):
        grid.evaluate_grid(config(), ["0", "9"], ["synchronous", "naive"], tmp_path, "T")
    assert asked == [] and not (tmp_path / "cells").exists()


def test_the_expert_is_not_compared(tmp_path):
    with pytest.raises(EvaluationError, match="The expert is no policy under test"):
        grid.evaluate_grid(config(policy="expert"), ["0"], ["naive"], tmp_path, "T")
