"""ACT, trained by LeRobot for a few steps on what we recorded, behind our protocol."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

pytest.importorskip("lerobot", reason="needs lerobot: pip install 'moxin_vla[data]'")

import torch

from moxin_vla.core.dataset import Drove
from moxin_vla.core.errors import CheckpointError, EmbodimentError
from moxin_vla.core.types import Observation
from moxin_vla.policy.lerobot import LeRobotPolicy, is_lerobot
from moxin_vla.policy.loading import load_policy, read_spec
from tests.recording.episodes import ROBOT, Session

CHUNK = 12


@pytest.fixture(scope="module")
def act(tmp_path_factory):
    """Train as lerobot-train does: its factory, its processors, its loader; save all."""
    from lerobot.datasets.factory import resolve_delta_timestamps
    from lerobot.datasets.lerobot_dataset import LeRobotDataset
    from lerobot.policies.act.configuration_act import ACTConfig
    from lerobot.policies.factory import make_policy, make_pre_post_processors

    root, folder = (tmp_path_factory.mktemp("act") / name for name in ("data", "pretrained_model"))
    with Session(root, codec="png") as session:
        for episode in range(2):
            session.record(episode, rows=30, driver=Drove.OPERATOR)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    config = ACTConfig(
        chunk_size=CHUNK,
        n_action_steps=CHUNK,
        dim_model=32,
        n_heads=2,
        dim_feedforward=64,
        n_encoder_layers=1,
        n_vae_encoder_layers=1,
        latent_dim=8,
        pretrained_backbone_weights=None,
        device="cpu",
        push_to_hub=False,
    )
    meta = LeRobotDataset("a/b", root=root).meta
    policy = make_policy(config, ds_meta=meta)
    before, after = make_pre_post_processors(config, dataset_stats=meta.stats)
    deltas = resolve_delta_timestamps(config, meta)
    dataset = LeRobotDataset("a/b", root=root, delta_timestamps=deltas, video_backend="pyav")
    loader = torch.utils.data.DataLoader(dataset, batch_size=4, shuffle=True)
    optimiser = torch.optim.AdamW(policy.get_optim_params(), lr=1e-3)
    for _, batch in zip(range(3), loader, strict=False):
        loss, _ = policy(before(batch))
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    policy.save_pretrained(folder)
    before.save_pretrained(folder)
    after.save_pretrained(folder)
    return folder


def scene(seed):
    rng = np.random.default_rng(seed)
    images = {c.name: rng.integers(0, 256, (96, 96, 3), np.uint8) for c in ROBOT.cameras}
    return Observation(7, images, rng.uniform(-0.5, 0.5, 6), "pick up the red cube")


def test_its_chunk_is_what_lerobot_would_do_step_by_step(act):
    from lerobot.policies.act.modeling_act import ACTPolicy
    from lerobot.policies.factory import make_pre_post_processors

    policy = load_policy(str(act), ROBOT)
    observation = scene(3)
    chunk = policy.infer(observation)
    assert chunk.actions.shape == (CHUNK, 6) == (policy.spec.horizon, 6)
    assert chunk.observation_time_ns == 7 and policy.spec.cameras == ("front", "wrist")
    theirs = ACTPolicy.from_pretrained(act)
    before, after = make_pre_post_processors(theirs.config, pretrained_path=str(act))
    batch = {
        "observation.state": torch.from_numpy(observation.proprio.astype(np.float32)),
        **{
            f"observation.images.{name}": torch.from_numpy(pixels.transpose(2, 0, 1) / 255).float()
            for name, pixels in observation.images.items()
        },
    }
    for step in range(CHUNK):
        expected = after(theirs.select_action(before(dict(batch)))).numpy().reshape(-1)
        assert np.allclose(chunk.actions[step], expected, atol=1e-5)


def test_the_same_observation_gives_the_same_chunk(act):
    policy = LeRobotPolicy(act, ROBOT)
    first = policy.infer(scene(1)).actions
    policy.infer(scene(2))
    assert np.array_equal(policy.infer(scene(1)).actions, first)
    assert read_spec(str(act), ROBOT).fingerprint == policy.spec.fingerprint != ""


def test_another_robots_policy_is_refused_with_what_differs(act):
    side = dataclasses.replace(ROBOT.cameras[0], name="side")
    large = dataclasses.replace(ROBOT.cameras[1], width=640, height=480)
    with pytest.raises(EmbodimentError) as refusal:
        LeRobotPolicy(act, dataclasses.replace(ROBOT, cameras=(side, large)))
    assert "cameras: needs front, the robot has side, wrist" in str(refusal.value)
    assert "camera wrist: trained on (3, 96, 96), the robot gives (3, 480, 640)" in str(
        refusal.value
    )


def test_a_checkpoint_without_weights_is_refused(act, tmp_path):
    broken = tmp_path / "pretrained_model"
    shutil.copytree(act, broken)
    (broken / "model.safetensors").unlink()
    assert is_lerobot(str(broken))
    with pytest.raises(CheckpointError, match="LeRobot can't load"):
        load_policy(str(broken), ROBOT)


def test_our_own_checkpoints_are_not_taken_for_lerobots(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "openvla"}))
    assert not is_lerobot(str(tmp_path)) and not is_lerobot("scripted:hold")


def test_it_plays_an_episode_in_the_simulator(act):
    pytest.importorskip("moxin_sim", reason="needs the simulator: pip install 'moxin_vla[sim]'")
    from moxin_sim import Tabletop, sample_episode
    from moxin_vla.evaluation.rollout import Rollout

    world = Tabletop(ROBOT)
    result = Rollout(world, load_policy(str(act), ROBOT), ROBOT).run(sample_episode("touch", 1))
    world.close()
    assert result.error == "" and result.loop["commits"] > 0
