"""The report says everything, whatever happened, and stays small."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from moxin_vla.core.embodiment import load_embodiment
from moxin_vla.core.protocols import EpisodeSpec, EpisodeStatus, PolicySpec
from moxin_vla.evaluation import report
from moxin_vla.evaluation.config import EvaluationConfig
from moxin_vla.evaluation.report import milliseconds, worth_saying, write_html, write_json
from moxin_vla.evaluation.rollout import EpisodeResult, broken_episode
from moxin_vla.evaluation.settings import settings
from moxin_vla.evaluation.statistics import by_family, interventions, percent
from moxin_vla.evaluation.video import NO_VIDEO

EMBODIMENT_FILE = Path(__file__).resolve().parents[3] / "config" / "embodiments" / "so101_sim.yaml"
EMBODIMENT = load_embodiment(EMBODIMENT_FILE)


def result(seed: int = 0, success: bool = True, failure: str = "", frames: int = 0):
    ticks = 24
    path = np.linspace(0, 0.5, ticks)[:, None] * np.ones(6)
    return EpisodeResult(
        spec=EpisodeSpec(seed, "pick", f"pick up cube number {seed}"),
        status=EpisodeStatus(ticks, 160, success, failure),
        step_ns=EMBODIMENT.step_ns,
        proprio=path,
        commands=path + 0.01,
        chunks=[(tick, np.tile(path[tick], (16, 1))) for tick in (0, 8, 16)],
        inference_ms=[9.0, 10.0, 11.0],
        wall_s=0.2,
        loop={"ticks": ticks, "starved_ticks": 2, "mode": "running", "rejected": {"stale": 1}},
        frames=[np.full((240, 320, 3), 10 * i, np.uint8) for i in range(frames)],
    )


def page_of(tmp_path, results, paired=None, determined=()) -> str:
    write_html(tmp_path / "report.html", "T", EMBODIMENT, results, determined, paired)
    return (tmp_path / "report.html").read_text()


def test_300_episodes_are_all_there_failures_first_in_a_small_file(tmp_path):
    results = [result(seed) for seed in range(299)] + [result(299, False, "moved the blue cube")]
    page = page_of(tmp_path, results)
    assert all(f"pick up cube number {seed}<" in page for seed in range(300))
    assert page.index("cube number 299<") < page.index("cube number 0<")
    assert "moved the blue cube" in page and "299 / 300" in page
    assert "99.7 %" in page and ">100 %" not in page  # the one failure is not rounded away
    assert len(page) < 2_000_000
    assert "<details open>" not in page


def test_a_broken_episode_is_shown_with_its_error_and_needs_no_data(tmp_path):
    broken = broken_episode(EpisodeSpec(3, "place", "put it away"), EMBODIMENT, "OSError: <gone>")
    page = page_of(tmp_path, [result(), broken])
    assert "put it away" in page and "OSError: &lt;gone&gt;" in page and "1 / 2" in page
    write_json(tmp_path / "r.json", by_family([broken]), [broken], ())
    (episode,) = json.loads((tmp_path / "r.json").read_text())["episodes"]
    assert (episode["success"], episode["error"]) == (False, "OSError: <gone>")


def test_nan_plans_do_not_break_the_plots(tmp_path):
    chunks = [*result().chunks, (20, np.full((16, 6), np.nan))]
    page = page_of(tmp_path, [replace(result(), chunks=chunks)])
    assert page.count('class="chunk"') == 3 * 6 and "nan," not in page


def test_the_file_needs_no_network(tmp_path):
    page = page_of(tmp_path, [result(frames=4)])
    sources = re.findall(r'(?:src|href|url)\s*[=(]\s*"?([^"\s)>]{1,40})', page)
    assert all(source.startswith("data:") for source in sources)
    assert "<script" not in page


def test_a_film_is_inside_the_page_as_mp4(tmp_path):
    pytest.importorskip("av")
    page = page_of(tmp_path, [result(frames=4), result(1)])
    (video,) = re.findall(r'src="data:video/mp4;base64,([^"]+)"', page)
    import base64
    import io

    import av

    with av.open(io.BytesIO(base64.b64decode(video))) as film:
        stream = film.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height) == ("h264", 320, 240)
        assert float(stream.average_rate) == 10.0
        assert len(list(film.decode(stream))) == 4


def test_a_page_without_pyav_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "can_encode", lambda: False)
    monkeypatch.setattr(report, "encode_mp4", lambda frames, fps: b"")
    assert NO_VIDEO in page_of(tmp_path, [result(frames=4)])


def test_pairs_that_were_not_followed_are_listed(tmp_path):
    paired = [result(5), result(6, False, "moved the red cube")]
    page = page_of(tmp_path, [result(5), result(6)], paired)
    assert "in 1 of 2 successful scenes" in page and "1 times it did not follow" in page
    assert "moved the red cube" in page
    write_json(tmp_path / "r.json", by_family(paired), paired, (), paired)
    content = json.loads((tmp_path / "r.json").read_text())
    assert content["listening"]["followed"] == 1 and content["listening"]["acted_on_other"] == 1
    assert [e["seed"] for e in content["paired_episodes"]] == [5, 6]


def test_json_is_strict_and_comes_back_as_it_was(tmp_path):
    results = [result(1, False, "ran away"), result(2)]
    odd = replace(results[0], inference_ms=[float("nan")])
    write_json(tmp_path / "r.json", by_family([odd]), [odd, results[1]], [("a", "b")])

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    content = json.loads((tmp_path / "r.json").read_text(), parse_constant=refuse)
    assert content["schema"] == 1 and content["settings"] == {"a": "b"}
    assert content["listening"] is None and content["paired_episodes"] == []
    first, second = content["episodes"]
    assert first["inference_ms"] == [None]
    assert second | {"trajectory": "", "control_loop": {}} == {
        "seed": 2,
        "family": "pick",
        "instruction": "pick up cube number 2",
        "success": True,
        "failure": "",
        "error": "",
        "steps": 24,
        "horizon": 160,
        "sim_s": 1.2,
        "wall_s": 0.2,
        "inference_ms": [9.0, 10.0, 11.0],
        "plan_ticks": [0, 8, 16],
        "trajectory": "",
        "control_loop": {},
    }


def test_equal_hashes_mean_equal_trajectories(tmp_path):
    one, other = result(), result()
    other.commands[3, 2] = np.nextafter(other.commands[3, 2], 1.0)  # the last bit of one number
    write_json(tmp_path / "r.json", by_family([one]), [one, result(), other], ())
    hashes = [e["trajectory"] for e in json.loads((tmp_path / "r.json").read_text())["episodes"]]
    assert hashes[0] == hashes[1] != hashes[2]


def test_the_settings_name_all_that_determines_the_result():
    config = EvaluationConfig(
        "checkpoints/some", EMBODIMENT_FILE, ("pick", "place"), 50, 100, 4, "ros", "realtime"
    )
    spec = PolicySpec("nano", EMBODIMENT.joint_names, ("front", "wrist"), 16, 20.0, "f1n9e2")
    found = dict(settings(config, EMBODIMENT, spec, [result()]))
    expected = {
        "policy": "checkpoints/some",
        "policy fingerprint": "f1n9e2",
        "policy name": "nano",
        "prediction horizon": "16 steps",
        "cameras": "front, wrist",
        "hold": "last_command",
        "families": "pick, place",
        "seeds per family": "100 to 149",
        "time limit": "pick 160 steps",
        "control rate": "20 Hz",
        "execution horizon": "4 steps",
        "run": "over ROS 2, realtime",
        "workers": "1",
        "device": "cpu",
    }
    assert {name: found.get(name) for name in expected} == expected
    assert re.fullmatch(r"so101_sim, file [0-9a-f]{12}", found["embodiment"])
    assert {"moxin_vla", "python", "numpy", "machine", "rendering"} <= set(found)


def test_interventions_are_added_up_by_name():
    assert interventions([result(), result()]) == {
        "ticks": 48,
        "starved_ticks": 4,
        "rejected stale": 2,
    }
    assert worth_saying(interventions([result()])) == "starved ticks 2, rejected stale 1"
    assert worth_saying({"ticks": 9, "commits": 2, "starved_ticks": 0}) == "no interventions"


def test_over_ros_refusals_are_counted_and_states_are_not():
    status = {"ticks": 9, "steps_left": 14, "rejected stale": 3, "messages refused": 1}
    heard = replace(result(), loop=status | {"mode": "running", "joint states Hz": "7.0"})
    assert interventions([heard]) == {"ticks": 9, "rejected stale": 3, "messages refused": 1}


def test_where_a_checkpoint_lies_on_this_machine_is_not_told(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def told(policy: str) -> str:
        config = EvaluationConfig(policy, EMBODIMENT_FILE, ("pick",), 1)
        return dict(settings(config, EMBODIMENT, None, []))["policy"]

    assert told(str(tmp_path / "checkpoints" / "nano")) == "checkpoints/nano"
    assert told("scripted:hold") == "scripted:hold"


def test_numbers_are_written_with_the_digits_they_need():
    assert [percent(x) for x in (0.0, 299 / 300, 1.0)] == ["0 %", "99.7 %", "100 %"]
    assert [milliseconds(x) for x in (0.44, 12.6, float("nan"))] == ["0.4 ms", "13 ms", "-"]
