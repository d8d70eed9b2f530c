"""Action-prefix conditioning: what is drawn for training, and what the model makes of it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from moxin_vla.policy.moxin.checkpoint import load_checkpoint, save_checkpoint
from moxin_vla.policy.moxin.model import ActionPrefix, Context, MoxinVLA
from moxin_vla.policy.moxin.policy import MoxinPolicy
from moxin_vla.policy.moxin.training.prefix import after_prefix, committed_prefix
from moxin_vla.policy.moxin.training.settings import TrainConfig

_SETTINGS = TrainConfig(prefix_steps=3, prefix_share=0.5, prefix_deviation=0.1)


def _drawn(batch=400, horizon=6, dims=2):
    target = torch.zeros(batch, horizon, dims)
    return committed_prefix(target, _SETTINGS, (1,), torch.Generator().manual_seed(0))


def test_prefixes_are_as_long_and_as_frequent_as_asked():
    prefix, _ = _drawn()
    assert set(prefix.steps.tolist()) == {0, 1, 2, 3}
    assert 0.4 < float((prefix.steps > 0).float().mean()) < 0.6


def test_the_target_leads_back_from_the_prefix_to_the_experts_chunk():
    prefix, target = _drawn()
    for steps, moved in zip(prefix.steps.tolist(), target[..., 0], strict=True):
        if steps == 0:
            assert torch.equal(moved, torch.zeros(6))
            continue
        assert torch.allclose(moved[:steps], moved[0])
        ratios = moved[steps:] / moved[0]
        expected = torch.exp(-torch.arange(1, 7 - steps) / 3.0)
        torch.testing.assert_close(ratios, expected)


def test_absolute_dims_are_never_moved():
    _, target = _drawn()
    assert torch.equal(target[..., 1], torch.zeros(400, 6))


def test_committed_steps_are_left_out_of_the_loss():
    error = torch.arange(6.0).view(1, 6, 1).expand(2, 6, 1)
    prefix = ActionPrefix(error, torch.tensor([4, 0]))
    assert after_prefix(error, prefix).flatten().tolist() == [4, 5, 0, 1, 2, 3, 4, 5]


@pytest.fixture
def policy(config, random_checkpoint, tmp_path):
    loaded = load_checkpoint(random_checkpoint)
    torch.manual_seed(0)
    model = MoxinVLA(replace(loaded.config, action_prefix=True, chunk=4))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    entry = {
        name: {key: [value] * 6 for key, value in {"q01": -1.0, "q99": 1.0}.items()}
        for name in ("action", "proprio")
    }
    save_checkpoint(tmp_path, model, {"random": entry}, loaded.tokenizer._tokenizer)
    return MoxinPolicy.load(tmp_path)


def test_a_chunk_begins_with_the_committed_steps_and_depends_on_them(policy, observe):
    free = policy.infer(observe()).actions
    committed = np.full((2, 6), 0.25)
    one = policy.infer(observe(committed=committed)).actions
    other = policy.infer(observe(committed=committed + 0.5)).actions
    assert np.array_equal(one[:2], committed)
    assert not np.allclose(one[2:], free[2:]) and not np.allclose(one[2:], other[2:])


def test_a_prefix_of_the_whole_chunk_leaves_a_step_to_plan(policy, observe):
    actions = policy.infer(observe(committed=np.full((9, 6), 0.25))).actions
    assert np.array_equal(actions[:3], np.full((3, 6), 0.25))
    assert not np.array_equal(actions[3], np.full(6, 0.25))


def test_a_model_without_prefix_ignores_committed_steps(random_checkpoint, observe):
    policy = MoxinPolicy.load(random_checkpoint)
    plain = policy.infer(observe()).actions
    assert np.array_equal(policy.infer(observe(committed=np.ones((2, 6)))).actions, plain)


def test_a_released_layout_carries_one_value_per_slot(config):
    model = MoxinVLA(replace(config, slots_per_step=None, action_slots="zero", action_prefix=True))
    assert model.action_prefix_projector.fc1.in_features == 1
    embedded = torch.nn.init.normal_(model.action_prefix_projector.fc2.bias)
    prefix = ActionPrefix(torch.zeros(1, config.chunk, 6), torch.tensor([2]))
    text = torch.zeros(1, 3, config.text.hidden_size)
    slots = model.slots(Context(text, None, text, text, None, text), prefix)
    assert torch.allclose(slots[0, :12], embedded.expand(12, -1))
    assert not slots[0, 12:].any()
