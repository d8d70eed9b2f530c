"""What learns, that a killed run goes on exactly, and that merged means the same."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from moxin_vla.core.errors import MoxinVlaError
from moxin_vla.policy.loading import load_policy
from moxin_vla.policy.moxin.checkpoint import load_checkpoint
from moxin_vla.policy.moxin.training.recorded import Mixture, load_recorded
from moxin_vla.policy.moxin.training.tuning import TuneConfig, Tuner, merged_state, train
from tests.recording.episodes import ROBOT

SMALL = TuneConfig(steps=6, batch_size=4, save_every=3, warmup_steps=2, learning_rate=1e-3)


@pytest.fixture
def start(dataset, checkpoint, tmp_path_factory):
    horizon = load_checkpoint(checkpoint).config.chunk
    cache = tmp_path_factory.getbasetemp() / "cache"
    data = load_recorded(dataset, ROBOT, horizon, cache)

    def make(folder, **changes):
        config = dataclasses.replace(SMALL, **changes)
        return Tuner(str(checkpoint), config, Mixture([data], None, config.seed), folder)

    return make


def losses(folder):
    rows = (folder / "metrics.jsonl").read_text().splitlines()
    return [(json.loads(row)["step"], json.loads(row)["loss"]) for row in rows]


def quiet(step, loss):
    pass


@pytest.mark.parametrize(
    "how", [{"bf16": "auto"}, {"learn": "lora"}, {"average": 2, "image_augmentation": True}]
)
def test_a_run_that_was_killed_goes_on_as_if_it_had_not_been(start, tmp_path, how):
    train(start(tmp_path / "whole", **how), quiet)
    killed = start(tmp_path / "killed", **how)
    for _ in range(3):
        killed.step()
    killed.save()
    killed.step()  # lost with the process
    again = start(tmp_path / "killed", **how)
    assert again.resume() and again.step_number == 3
    train(again, quiet)
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    one, two = (load_checkpoint(tmp_path / n / "checkpoint").model for n in ("whole", "killed"))
    for (name, a), b in zip(one.state_dict().items(), two.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_a_run_that_was_killed_before_its_first_state_begins_anew(start, tmp_path):
    train(start(tmp_path / "whole"), quiet)
    killed = start(tmp_path / "killed")
    killed.step()
    again = start(tmp_path / "killed")
    assert not again.resume()
    train(again, quiet)
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")


def test_a_checkpoint_that_is_older_than_the_state_is_written_again(start, tmp_path, monkeypatch):
    tuner = start(tmp_path)
    for _ in range(3):
        tuner.step()
    tuner.save()
    tuner.step()
    monkeypatch.setattr(tuner, "_export", lambda: None)  # it is killed there
    tuner.save()
    again = start(tmp_path)
    assert again.resume()
    assert json.loads((tmp_path / "checkpoint" / "training.json").read_text())["step"] == 4
    saved, present = load_checkpoint(tmp_path / "checkpoint").model, again.model
    for (name, a), b in zip(
        saved.state_dict().items(), present.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b), name


def test_with_lora_only_adapters_and_the_head_learn(start, checkpoint, tmp_path):
    tuner = start(tmp_path, learn="lora", rank=4)
    before = {n: p.detach().clone() for n, p in tuner.model.named_parameters()}
    train(tuner, quiet)
    changed = {n for n, p in tuner.model.named_parameters() if not torch.equal(p, before[n])}
    heads = ("action_head", "proprio_projector")
    assert all("lora_" in name or name.startswith(heads) for name in changed)
    assert any("lora_B" in name for name in changed)
    assert any(name.startswith("action_head") for name in changed)


def test_merged_and_unmerged_outputs_agree_and_the_checkpoint_may_drive(start, tmp_path):
    tuner = start(tmp_path, learn="lora", rank=4, learning_rate=1e-2)
    path = train(tuner, quiet)
    merged = load_checkpoint(path).model
    assert set(merged_state(tuner.model)) == set(merged.state_dict())
    config, rng = merged.config, torch.Generator().manual_seed(0)
    side, towers = config.image_size, len(config.towers)
    pixels = torch.randn(2, config.num_images * towers * 3, side, side, generator=rng)
    ids = torch.tensor([[1, 5, 6, 7], [1, 8, 9, 7]])
    proprio = torch.randn(2, config.proprio_dim, generator=rng)
    with torch.no_grad():
        unmerged = tuner.model.eval()(pixels, ids, None, proprio).actions
        assert unmerged is not None
        assert torch.allclose(merged(pixels, ids, None, proprio).actions, unmerged, atol=1e-4)
    assert load_policy(str(path), ROBOT).spec.horizon == config.chunk
    assert (path / "adapter" / "adapter_model.safetensors").is_file()


def test_the_adapter_merges_into_the_base_by_our_own_reader(start, checkpoint, tmp_path):
    from moxin_vla.policy.moxin.lora import merge_adapter, open_adapter
    from moxin_vla.policy.moxin.opening import open_checkpoint

    tuner = start(tmp_path, learn="lora", rank=4)
    path = train(tuner, quiet)
    weights = open_checkpoint(checkpoint).gathered.weights
    merged = merge_adapter(weights, open_adapter(path / "adapter"))
    ours = load_checkpoint(path).model.state_dict()
    name = "language_model.model.layers.0.self_attn.q_proj.weight"
    assert torch.allclose(merged[name].read().float(), ours[name], atol=1e-6)
    assert not torch.equal(weights[name].read().float(), ours[name])


def test_accumulated_parts_are_the_whole_batch(start, tmp_path):
    whole, parts = start(tmp_path / "a"), start(tmp_path / "b", accumulate=4)
    for _ in range(3):
        assert whole.step() == pytest.approx(parts.step(), rel=1e-5)


def test_it_learns(start, tmp_path):
    tuner = start(tmp_path, steps=100, learning_rate=2e-3, save_every=100)
    train(tuner, quiet)
    curve = [loss for _, loss in losses(tmp_path)]
    assert np.mean(curve[-20:]) < 0.7 * np.mean(curve[:5])


def test_a_fresh_head_forgets_the_old_one(start, tmp_path):
    old, fresh = start(tmp_path / "a"), start(tmp_path / "b", fresh_head=True)
    name = "fc1" if hasattr(old.model.action_head, "fc1") else None
    a, b = (dict(t.model.action_head.named_parameters()) for t in (old, fresh))
    key = next(k for k in a if k.endswith("weight") and a[k].ndim == 2 and (name or "") in k)
    assert not torch.equal(a[key], b[key])


def test_a_loss_that_is_not_finite_names_the_rows(start, tmp_path):
    tuner = start(tmp_path)
    with torch.no_grad():
        next(tuner.model.action_head.parameters()).fill_(float("nan"))
    with pytest.raises(
        MoxinVlaError, match=r"The loss of step 0 is nan. It came from: recorded row"
    ):
        tuner.step()


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(MoxinVlaError, match=r"learn: 'some'\. Choose from: all, head, lora"):
        TuneConfig(learn="some")
    with pytest.raises(MoxinVlaError, match=r"bf16: 'yes'\. Choose from: true, false, auto"):
        TuneConfig(bf16="yes")
    with pytest.raises(MoxinVlaError, match="not a multiple of accumulate"):
        TuneConfig(batch_size=10, accumulate=3)
