"""`moxin-vla train` as a user calls it: from random weights, on several processes, with curves."""

import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from moxin_vla.cli.main import main
from moxin_vla.policy.loading import load_policy
from tests.recording.episodes import ROBOT
from tests.small_model import SMALL

TUNE = {
    "learn": "all",
    "steps": 8,
    "batch_size": 4,
    "learning_rate": 1.0e-3,
    "warmup_steps": 2,
    "save_every": 4,
    "image_augmentation": True,  # several processes must see what one sees
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("command")
    sizes = yaml.safe_load(SMALL)["model"] | {"chunk": 8}
    (folder / "sizes.yaml").write_text(yaml.safe_dump({"model": sizes}), encoding="utf-8")
    recipe = {"sizes": str(folder / "sizes.yaml"), "tune": TUNE}
    (folder / "scratch.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def words(folder, dataset):
    return ["train", str(folder / "scratch.yaml"), "--data", str(dataset)]


@pytest.fixture(scope="module")
def alone(folder, words):
    assert main([*words, "--out", str(folder / "alone")]) == 0
    return folder / "alone"


def losses(out):
    rows = (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(row)["loss"] for row in rows]


def test_from_random_weights_to_a_checkpoint_that_loads(alone):
    assert len(losses(alone)) == 8
    policy = load_policy(str(alone / "checkpoint"), ROBOT, test=False)
    assert policy.spec.horizon == 8 and policy.spec.joints == ROBOT.joint_names
    statistics = json.loads((alone / "base" / "dataset_statistics.json").read_text())
    entry = statistics["recorded"]["action"]
    assert max(np.abs(entry["max"][:5])) < 0.1  # offsets within a chunk, not positions


def test_the_curves_are_drawn_on_a_page_of_their_own(alone):
    page = (alone / "curves.html").read_text(encoding="utf-8")
    assert page.count("<polyline") == 3 and "step 1<" in page and ">8</text>" in page
    assert "NaN" not in page and "nan" not in page and "src=" not in page


def test_checkpoints_are_played_in_simulation_and_the_best_one_is_kept(
    folder, words, monkeypatch, capsys
):
    pytest.importorskip("moxin_sim", reason="needs the simulator: pip install 'moxin_vla[sim]'")
    from moxin_vla.evaluation import runner

    out, played = folder / "judged", []
    judged = [*words, "--out", str(out), "--evaluate", "touch", "--episodes", "2"]

    def play(config, planned, on_result):
        results = list(real(config, planned, on_result))
        assert [r.error for r in results] == ["", ""]
        played.append(json.loads((Path(config.policy) / "training.json").read_text())["step"])
        good = played[-1] == 4  # as if the first checkpoint were the better one
        return [replace(r, status=replace(r.status, success=good)) for r in results]

    real = runner.run_episodes
    monkeypatch.setattr(runner, "run_episodes", play)
    assert main(judged) == 0
    assert main(judged) == 0  # done: nothing is played again
    assert played == [4, 8]
    assert json.loads((out / "best" / "training.json").read_text())["step"] == 4
    assert "step 4: 2 of 2 touch" in capsys.readouterr().out
    assert "success in simulation" in (out / "curves.html").read_text(encoding="utf-8")
    (out / "evaluations.jsonl").write_text('{"step": 4, "success": 0, "episodes": 2}\n{"st')
    assert main(judged) == 0  # killed before the last one was judged
    assert played == [4, 8, 8]


def test_several_processes_learn_what_one_learns(folder, words, alone):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    out = folder / "together"
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2"]
    where = ["--master-addr", "127.0.0.1", "--master-port", str(port)]
    command = [*launcher, *where, "-m", "moxin_vla.cli.main", *words, "--out", str(out)]
    done = subprocess.run(
        [sys.executable, *command],
        env=dict(os.environ) | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert losses(out) == pytest.approx(losses(alone), rel=1e-3)
    assert done.stdout.count("values learn") == 1  # one process speaks


def test_batches_that_can_not_be_shared_are_refused(words, folder, monkeypatch, capsys):
    from moxin_vla.policy.moxin.training import ranks

    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setattr(ranks.distributed, "init_process_group", lambda backend, timeout: None)
    monkeypatch.setattr(ranks.distributed, "barrier", lambda: None)
    monkeypatch.setattr(ranks.distributed, "destroy_process_group", lambda: None)
    assert main([*words, "--out", str(folder / "three")]) == 2
    assert "batch_size 4 can't be shared by 3 processes" in capsys.readouterr().err


def test_sizes_without_a_horizon_are_refused(folder, dataset, tmp_path, capsys):
    (tmp_path / "sizes.yaml").write_text(SMALL, encoding="utf-8")
    recipe = {"sizes": str(tmp_path / "sizes.yaml"), "tune": TUNE}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    words = ["train", str(tmp_path / "recipe.yaml"), "--data", str(dataset)]
    assert main([*words, "--out", str(tmp_path / "out")]) == 2
    assert f"The `model` of '{tmp_path / 'sizes.yaml'}' lacks: chunk" in capsys.readouterr().err


def test_a_best_checkpoint_that_was_being_replaced_is_kept(words, alone, tmp_path):
    out = shutil.copytree(alone, tmp_path / "killed")
    shutil.copytree(out / "checkpoint", out / "best.old")
    judged = [
        '{"step": 4, "success": 2, "episodes": 2}',
        '{"step": 8, "success": 1, "episodes": 2}',
    ]
    (out / "evaluations.jsonl").write_text("\n".join(judged) + "\n", encoding="utf-8")
    assert main([*words, "--out", str(out), "--evaluate", "touch", "--episodes", "2"]) == 0
    assert (out / "best" / "training.json").is_file() and not (out / "best.old").exists()
