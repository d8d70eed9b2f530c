"""Our policy and our simulator as LeRobot sees them."""

import numpy as np
import pytest

pytest.importorskip("lerobot", reason="needs lerobot: pip install 'moxin_vla[data]'")
pytest.importorskip("lerobot_policy_moxin_vla", reason="needs plugins/lerobot_policy_moxin_vla")

import torch
from lerobot.configs import PreTrainedConfig
from lerobot.datasets.factory import resolve_delta_timestamps
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.envs.configs import EnvConfig
from lerobot.policies.factory import make_policy, make_pre_post_processors
from lerobot.utils.import_utils import register_third_party_plugins

from moxin_vla.core.errors import CheckpointError, EmbodimentError
from moxin_vla.core.resources import resource_path
from moxin_vla.core.types import Observation
from moxin_vla.policy.loading import load_policy, read_spec
from tests.recording.episodes import ROBOT
from tests.recording.sound import record
from tests.small_model import SMALL

SHIPPED = resource_path("checkpoints/moxin-nano-so101")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.set_num_threads(1)
    register_third_party_plugins()
    folder = tmp_path_factory.mktemp("plugins")
    record(folder / "data", episodes=2, codec="png")
    (folder / "small.yaml").write_text(SMALL, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def meta(folder):
    return LeRobotDataset("a/b", root=folder / "data").meta


def made(meta, **how):
    config = PreTrainedConfig.get_choice_class("moxin_vla")(device="cpu", **how)
    return make_policy(config, ds_meta=meta)


@pytest.fixture(scope="module")
def saved(folder, meta):
    """A policy that LeRobot's own loader, factory and processors trained for a few steps."""
    torch.manual_seed(0)
    policy = made(meta, recipe=str(folder / "small.yaml"), chunk_size=8)
    before, after = make_pre_post_processors(policy.config, dataset_stats=meta.stats)
    deltas = resolve_delta_timestamps(policy.config, meta)
    dataset = LeRobotDataset("a/b", root=folder / "data", delta_timestamps=deltas)
    loader = torch.utils.data.DataLoader(dataset, batch_size=8, shuffle=True)
    optimiser = torch.optim.AdamW(policy.get_optim_params(), lr=3e-3)
    losses = []
    while len(losses) < 40:
        for batch in loader:
            loss, said = policy(before(batch))
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
            losses.append(said["l1"])
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    target = folder / "pretrained_model"
    policy.save_pretrained(target)
    before.save_pretrained(target)
    after.save_pretrained(target)
    return target


def scene(seed):
    rng = np.random.default_rng(seed)
    images = {c.name: rng.integers(0, 256, (96, 96, 3), np.uint8) for c in ROBOT.cameras}
    return Observation(0, images, rng.uniform(-0.5, 0.5, 6), "pick up the red cube")


def as_batch(observation):
    return {
        "observation.state": torch.from_numpy(observation.proprio.astype(np.float32)),
        "task": observation.instruction,
        **{
            f"observation.images.{name}": torch.from_numpy(pixels.transpose(2, 0, 1) / 255).float()
            for name, pixels in observation.images.items()
        },
    }


def test_what_lerobot_trained_gives_the_same_chunk_on_our_nodes(saved):
    config = PreTrainedConfig.from_pretrained(saved)
    config.pretrained_path = saved
    from lerobot_policy_moxin_vla.modeling_moxin_vla import MoxinVlaPolicy

    theirs = MoxinVlaPolicy.from_pretrained(saved)
    before, after = make_pre_post_processors(config, pretrained_path=str(saved))
    ours = load_policy(str(saved), ROBOT, test=False)
    assert ours.spec.horizon == 8 and read_spec(str(saved), ROBOT).horizon == 8
    for seed in range(3):
        expected = ours.infer(scene(seed)).actions
        batch = before(as_batch(scene(seed)))
        chunk = theirs.predict_action_chunk(batch)[0].numpy()
        assert np.allclose(chunk, expected, atol=1e-5)
        theirs.reset()
        steps = [after(theirs.select_action(batch)).numpy()[0] for _ in range(8)]
        assert np.allclose(steps, expected[:8], atol=1e-5)


def test_training_can_begin_with_a_checkpoint(meta):
    policy = made(meta, checkpoint=str(SHIPPED)).eval()
    assert policy.config.chunk_size == 16
    before, _ = make_pre_post_processors(policy.config, dataset_stats=meta.stats)
    chunk = policy.predict_action_chunk(before(as_batch(scene(1))))[0].numpy()
    expected = load_policy(str(SHIPPED), ROBOT).infer(scene(1)).actions
    assert np.allclose(chunk, expected, atol=1e-5)


def test_steps_beyond_the_end_of_an_episode_are_not_learned(folder, meta):
    policy = made(meta, recipe=str(folder / "small.yaml"), chunk_size=8)
    deltas = resolve_delta_timestamps(policy.config, meta)
    dataset = LeRobotDataset("a/b", root=folder / "data", delta_timestamps=deltas)
    before, _ = make_pre_post_processors(policy.config, dataset_stats=meta.stats)
    batch = before(torch.utils.data.default_collate([dataset[38]]))
    inside = ~batch["action_is_pad"][0]
    assert inside.tolist() == [True, True] + [False] * 6
    loss, _ = policy(batch)
    batch["action"][:, 2:] += 10.0
    assert float(policy(batch)[0]) == pytest.approx(float(loss))


def test_what_does_not_fit_is_refused_in_words(folder, meta, tmp_path):
    with pytest.raises(CheckpointError, match="or with a dataset to take statistics from"):
        kind = PreTrainedConfig.get_choice_class("moxin_vla")(device="cpu")
        from lerobot_policy_moxin_vla.modeling_moxin_vla import MoxinVlaPolicy

        MoxinVlaPolicy(kind)
    with pytest.raises(ValueError, match=r"n_action_steps must be from 1 to chunk_size \(8\)"):
        made(meta, chunk_size=8, n_action_steps=9)
    text = resource_path("config/embodiments/so101_sim.yaml").read_text(encoding="utf-8")
    (tmp_path / "other.yaml").write_text(text.replace("wrist_roll", "wrist_turn"))
    with pytest.raises(EmbodimentError, match="is not one of the robot 'so101_sim'"):
        made(meta, embodiment=str(tmp_path / "other.yaml"))
    tmp_path.joinpath("config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="has no folder 'moxin_vla'"):
        MoxinVlaPolicy.from_pretrained(tmp_path, config=made(meta).config)


@pytest.mark.parametrize("use_async", [False, True])
def test_the_simulator_is_an_environment_of_lerobot(folder, use_async):
    pytest.importorskip("lerobot_env_moxin_sim", reason="needs plugins/lerobot_env_moxin_sim")
    from lerobot.envs.utils import preprocess_observation

    config = EnvConfig.get_choice_class("moxin_sim")(task="touch,pick")
    made = config.create_envs(2, use_async)["moxin_sim"]
    assert sorted(made) == [0, 1]
    for env in made.values():
        try:
            observation, _ = env.reset(seed=[3, 4])
            again, _ = env.reset(seed=[3, 4])
            assert np.array_equal(observation["agent_pos"], again["agent_pos"])
            batch = preprocess_observation(observation)
            assert batch["observation.images.front"].shape == (2, 3, 96, 96)
            assert batch["observation.state"].shape == (2, 6)
            assert all(" cube" in text for text in env.call("task_description"))
            assert env.call("_max_episode_steps")[0] in (100, 160)
            _, reward, *_, info = env.step(observation["agent_pos"].astype(np.float32))
            assert reward.tolist() == [0.0, 0.0] and info["is_success"].tolist() == [False, False]
        finally:
            env.close()
    with pytest.raises(ValueError, match="moxin_sim runs at 20 Hz"):
        EnvConfig.get_choice_class("moxin_sim")(fps=30)


def test_training_can_begin_with_what_lerobot_saved(saved, meta):
    policy = made(meta, checkpoint=str(saved)).eval()
    assert policy.config.chunk_size == 8
    before, _ = make_pre_post_processors(policy.config, dataset_stats=meta.stats)
    chunk = policy.predict_action_chunk(before(as_batch(scene(1))))[0].numpy()
    expected = load_policy(str(saved), ROBOT, test=False).infer(scene(1)).actions
    assert np.allclose(chunk, expected, atol=1e-5)
