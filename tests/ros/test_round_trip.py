"""Record over ROS, train with LeRobot's own command, evaluate with its and ours; ACT on our nodes.

Each command runs in a process of its own, as a user would call it.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("lerobot_policy_moxin_vla", reason="needs plugins/lerobot_policy_moxin_vla")

from moxin_sim import sample_episode
from moxin_vla.cli.main import main
from moxin_vla.ros.recorded_episodes import RecordedEpisodes
from tests.recording.episodes import loaded
from tests.small_model import SMALL

BIN = Path(sys.executable).parent
EPISODES = 4


@pytest.fixture(scope="module")
def folder(start_system, tmp_path_factory) -> Path:
    """A folder with `data`: the expert's episodes, recorded over topics."""
    folder = tmp_path_factory.mktemp("round_trip")
    with start_system("scripted:hold", teleop="autopilot", record=str(folder / "data")) as running:
        specs = [sample_episode("touch", seed) for seed in range(EPISODES)]
        done = list(RecordedEpisodes(running.client).play(specs))
    assert all(episode.success for episode in done)
    (folder / "small.yaml").write_text(SMALL, encoding="utf-8")
    return folder


def run(command: str, *words: object) -> None:
    done = subprocess.run(
        [BIN / command, *map(str, words)], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


def train(folder: Path, out: Path, *words: object) -> Path:
    run(
        "lerobot-train",
        "--dataset.repo_id=me/data",
        f"--dataset.root={folder / 'data'}",
        "--dataset.video_backend=pyav",
        "--policy.device=cpu",
        "--policy.push_to_hub=false",
        f"--output_dir={out}",
        "--num_workers=0",
        "--wandb.enable=false",
        *words,
    )
    return out / "checkpoints" / "last" / "pretrained_model"


def test_recorded_trained_and_evaluated_with_lerobots_commands(folder):
    assert loaded(folder / "data").num_episodes == EPISODES
    saved = train(
        folder,
        folder / "ours",
        "--policy.type=moxin_vla",
        f"--policy.recipe={folder / 'small.yaml'}",
        "--steps=200",
        "--batch_size=2",
        "--save_freq=200",
    )
    out = folder / "evaluated"
    run(
        "lerobot-eval",
        f"--policy.path={saved}",
        "--policy.device=cpu",
        "--env.type=moxin_sim",
        "--env.task=touch",
        "--eval.n_episodes=2",
        "--eval.batch_size=2",
        f"--output_dir={out}",
    )
    info = json.loads((out / "eval_info.json").read_text())
    assert info["overall"]["n_episodes"] == 2
    words = ["eval", str(saved), "--families", "touch", "--episodes", "2", "--videos", "0"]
    assert main([*words, "--out", str(out / "ours"), "--no-self-test"]) == 0
    results = json.loads((out / "ours" / "results.json").read_text())
    assert [e["error"] for e in results["episodes"]] == ["", ""]


def test_act_trained_by_lerobot_drives_over_ros(folder, start_system):
    saved = train(
        folder,
        folder / "act",
        "--policy.type=act",
        "--policy.pretrained_backbone_weights=null",
        "--policy.chunk_size=16",
        "--policy.n_action_steps=8",
        "--policy.dim_model=32",
        "--policy.n_heads=2",
        "--policy.dim_feedforward=64",
        "--policy.n_encoder_layers=1",
        "--policy.use_vae=false",
        "--steps=5",
        "--batch_size=2",
        "--save_freq=5",
    )
    with start_system(str(saved)) as running:
        episode = running.client.run(sample_episode("touch", 9))
    assert not episode.error
    assert int(episode.control["commits"]) > 1
    assert len(episode.commands) == episode.status.step
