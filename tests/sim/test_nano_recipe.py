"""The recipe of moxin-nano at a tiny size: record, train, resume, let the policy drive."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from moxin_sim import instructions, sample_episode
from moxin_sim.demonstrations import ShardPlan, record_shard
from moxin_vla.core import dataset as keys
from moxin_vla.core.dataset import is_finished
from moxin_vla.core.embodiment import load_embodiment
from moxin_vla.core.errors import MoxinVlaError
from moxin_vla.core.resources import resource_path
from moxin_vla.policy.loading import load_policy
from moxin_vla.policy.moxin.training.data import Sampler, load_shard
from moxin_vla.policy.moxin.training.recipe import Workshop, load_recipe

EMBODIMENT = load_embodiment(resource_path("config/embodiments/so101_sim.yaml"))
CAMERAS = EMBODIMENT.camera_names
EPISODES = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A workshop folder with three recorded shards and a recipe that takes seconds."""
    folder = tmp_path_factory.mktemp("nano")
    recipe = yaml.safe_load(resource_path("config/policies/moxin_nano.yaml").read_text())
    recipe["data"] |= {"episodes_per_shard": EPISODES, "expert_shards": 3, "max_shards": 4}
    recipe["train"] |= {"total_samples": 1600, "batch_size": 16, "warmup_samples": 160}
    recipe["adapt"] |= {"total_samples": 800, "batch_size": 16, "warmup_samples": 80}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    for index in range(3):
        plan = ShardPlan(
            folder / "data" / f"shard_{index:03d}", 900_000 + 100 * index, EPISODES, 0.0
        )
        record_shard(plan, EMBODIMENT, None, {"driver": "expert"})
    return folder


def workshop(folder: Path) -> Workshop:
    return Workshop(folder, load_recipe(folder / "recipe.yaml"), EMBODIMENT, instructions())


def test_lerobots_own_loader_reads_the_demonstrations(folder):
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    dataset = LeRobotDataset("moxin_vla/shard_000", root=folder / "data" / "shard_000")
    assert dataset.num_episodes == EPISODES and dataset.fps == 5
    frame = dataset[0]
    assert frame["task"] == sample_episode("touch", 900_000).instruction
    assert frame[keys.image_key("front")].shape == (3, 96, 96)
    assert frame[keys.EXPERT_CHUNK].shape == (16, 6)


def test_decoding_keeps_pixels_and_labels(folder, tmp_path):
    shard = load_shard(folder / "data" / "shard_000", CAMERAS, tmp_path)
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    frame = LeRobotDataset("moxin_vla/shard_000", root=folder / "data" / "shard_000")[3]
    pixels = (frame[keys.image_key("wrist")].numpy() * 255).round().astype(np.uint8)
    assert np.array_equal(shard.images[3, 1], pixels.transpose(1, 2, 0))
    assert np.array_equal(shard.chunk[3], frame[keys.EXPERT_CHUNK].numpy())
    assert shard.texts[shard.instructions[3]] == frame["task"]


def test_a_batch_keeps_rows_together(folder, tmp_path):
    sampler = Sampler(seed=0)
    shards = [load_shard(folder / "data" / f"shard_00{i}", CAMERAS, tmp_path) for i in range(2)]
    for shard in shards:
        sampler.add(shard)
    batch = sampler.draw(64)
    rows = {
        (shard.proprio[i].tobytes(), shard.chunk[i].tobytes(), shard.texts[shard.instructions[i]])
        for shard in shards
        for i in range(len(shard))
    }
    for proprio, chunk, text in zip(batch.proprio, batch.chunk, batch.texts, strict=True):
        assert (proprio.tobytes(), chunk.tobytes(), text) in rows


def test_recording_again_gives_the_same_data(folder, tmp_path):
    plan = ShardPlan(tmp_path / "again", 900_000, EPISODES, 0.0)
    record_shard(plan, EMBODIMENT, None, {})
    one = load_shard(folder / "data" / "shard_000", CAMERAS, tmp_path / "a")
    two = load_shard(tmp_path / "again", CAMERAS, tmp_path / "b")
    assert np.array_equal(one.images, two.images) and np.array_equal(one.chunk, two.chunk)


def test_a_dataset_that_was_cut_off_is_not_used(folder, tmp_path):
    broken = tmp_path / "data" / "shard_000"
    (broken / "data").mkdir(parents=True)
    assert not is_finished(broken)
    with pytest.raises(MoxinVlaError, match=r"was not finished; record it again"):
        load_shard(broken, CAMERAS, tmp_path)


def test_an_unknown_field_in_a_recipe_is_named(tmp_path):
    recipe = yaml.safe_load(resource_path("config/policies/moxin_nano.yaml").read_text())
    recipe["train"]["lerning_rate"] = 1
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe))
    with pytest.raises(MoxinVlaError, match=r"train: unknown lerning_rate. Known: total_samples"):
        load_recipe(tmp_path / "r.yaml")


def test_training_learns_resumes_and_exports_a_policy_that_drives(folder):
    rows = []
    workshop(folder).train(rows.append)
    log = [json.loads(x) for x in (folder / "train" / "train.jsonl").read_text().splitlines()]
    assert len(log) == 2 and len(rows) == 3  # the third is of the second stage
    assert log[-1]["action"] < log[0]["action"]
    policy = load_policy(str(folder / "checkpoint"), EMBODIMENT)
    assert policy.spec.cameras == CAMERAS and policy.spec.horizon == 16
    again = workshop(folder)
    again.add_finished_shards()
    trainer = again._trainer(again.recipe.train, "train")
    assert trainer.resume() and trainer.done and trainer.samples == 1600
    plan = ShardPlan(folder / "data" / "shard_003", 910_000, 3, policy_share=1.0)
    record_shard(plan, EMBODIMENT, policy, {"driver": "policy"})
    driven = load_shard(plan.root, CAMERAS, folder / "cache")
    assert driven.driver.all() and len(driven) >= 6
