"""What training begins with: it must fit the robot, is read in full, and sees what it will see."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
import yaml

from moxin_vla.cli.main import main
from moxin_vla.core.types import Observation
from moxin_vla.policy.loading import load_policy
from moxin_vla.policy.moxin import checkpoint as reading
from moxin_vla.policy.moxin.presets import write_random_checkpoint
from moxin_vla.policy.moxin.training.trainable import Trainable
from tests import layouts
from tests.recording.episodes import ROBOT
from tests.recording.sound import ROWS, picture, record

ONE_STEP = {"learn": "all", "steps": 1, "batch_size": 2}


@pytest.fixture
def train(dataset, tmp_path):
    """Take a step from a base by the command, on other data if asked to."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"tune": ONE_STEP}), encoding="utf-8")

    def call(base, data=dataset):
        words = ["train", str(recipe), "--data", str(data), "--base", str(base)]
        return main([*words, "--out", str(tmp_path / "out")])

    return call


def robot(**changes):
    return dataclasses.replace(ROBOT, **changes)


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (robot(joints=(*ROBOT.joints[1::-1], *ROBOT.joints[2:])), "joints differ"),
        (robot(control_rate_hz=10.0), "was trained at 10.0 Hz. Embodiment 'so101_sim' runs at 20"),
    ],
    ids=["joints in another order", "another rate"],
)
def test_a_base_of_another_robot_is_refused(train, tmp_path, capsys, other, says):
    write_random_checkpoint(tmp_path / "base", other, seed=1)
    assert train(tmp_path / "base") == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out" / "cache").exists()  # before anything is decoded


def test_a_base_gets_the_cameras_in_its_own_order(train, tmp_path, monkeypatch):
    seen, errors = [], Trainable.errors

    def watched(self, images, *rest):
        seen.extend(images)
        return errors(self, images, *rest)

    monkeypatch.setattr(Trainable, "errors", watched)
    write_random_checkpoint(tmp_path / "base", robot(cameras=ROBOT.cameras[::-1]), seed=1)
    assert train(tmp_path / "base", record(tmp_path / "d", codec="png").root) == 0
    wrist_first = [[picture(k, 1), picture(k, 0)] for k in range(ROWS)]
    assert len(seen) == 2
    assert all(any(np.array_equal(row, pair) for pair in wrist_first) for row in seen)


@pytest.mark.parametrize(
    ("step", "side"),
    [
        ({"rotate_180": ["front"]}, 96),
        ({"center_crop": True}, 96),
        ({"resize": "lanczos3", "jpeg_round_trip": True}, 128),
    ],
    ids=["rotated", "cropped", "resized"],
)
def test_training_sees_what_driving_sees(checkpoint, tmp_path, step, side):
    base = shutil.copytree(checkpoint, tmp_path / "base")
    file = base / "preprocessor_config.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    own = content.get("moxin_vla", {})
    file.write_text(json.dumps(content | step | {"moxin_vla": own | step}), encoding="utf-8")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (1, 2, side, side, 3), np.uint8)
    proprio, text = rng.uniform(-0.5, 0.5, (1, 6)).astype(np.float32), "pick up the red cube"
    trainable = Trainable(str(base))
    trainable.model.eval()
    learned = trainable.predict(images, proprio, [text])[0]
    named = dict(zip(ROBOT.camera_names, images[0], strict=True))
    seen = Observation(0, named, proprio[0].astype(float), text)
    expected = load_policy(str(base), ROBOT, test=False).infer(seen).actions
    assert np.allclose(learned, expected, atol=1e-5)


def test_weights_are_not_rounded_for_a_gpu(checkpoint, monkeypatch):
    stored, real = Trainable(str(checkpoint)).model.state_dict(), reading.compute_dtype
    monkeypatch.setattr(reading, "compute_dtype", lambda opened, device: real(opened, "cuda"))
    for name, weights in Trainable(str(checkpoint)).model.state_dict().items():
        assert torch.equal(weights, stored[name]), name


def test_a_policy_file_can_be_the_base(train, tmp_path, monkeypatch):
    layouts.small_towers(monkeypatch)
    config = layouts.tiny_config()
    layouts.write_released(tmp_path / "released", config, layouts.random_model(config))
    said = layouts.SAID | {"cameras": [*config.cameras], "joints": [*config.joints]}
    said |= {"checkpoint": "released", "action_space": config.action_space.value}
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(said), encoding="utf-8")
    assert train(tmp_path / "policy.yaml") == 0
    made = json.loads((tmp_path / "out" / "checkpoint" / "training.json").read_text())
    assert made["step"] == 1
    assert Trainable(str(tmp_path / "out" / "checkpoint")).config.chunk == config.chunk


def test_what_lerobot_saved_can_be_the_base(train, checkpoint, tmp_path):
    folder = tmp_path / "pretrained_model"
    shutil.copytree(checkpoint, folder / "moxin_vla")
    (folder / "config.json").write_text('{"type": "moxin_vla", "input_features": {}}')
    assert train(folder) == 0
