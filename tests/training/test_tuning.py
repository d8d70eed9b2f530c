"""What learns, that a killed run goes on exactly, and that merged means the same."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from moxin_vla.core.errors import MoxinVlaError
from moxin_vla.policy.loading import load_policy
from moxin_vla.policy.moxin.checkpoint import load_checkpoint
from moxin_vla.policy.moxin.presets import write_random_checkpoint
from moxin_vla.policy.moxin.training.recorded import Mixture, load_recorded
from moxin_vla.policy.moxin.training.tune_config import TuneConfig
from moxin_vla.policy.moxin.training.tuning import Tuner, merged_state, train
from tests.recording.episodes import ROBOT

SMALL = TuneConfig(steps=6, batch_size=4, save_every=3, warmup_steps=2, learning_rate=1e-3)


@pytest.fixture
def start(dataset, checkpoint, tmp_path_factory):
    horizon = load_checkpoint(checkpoint).config.chunk
    cache = tmp_path_factory.getbasetemp() / "cache"
    data = load_recorded(dataset, ROBOT, horizon, cache)

    def make(folder, base=checkpoint, **changes):
        config = dataclasses.replace(SMALL, **changes)
        return Tuner(str(base), config, Mixture([data], None, config.seed), folder)

    return make


def losses(folder):
    rows = (folder / "metrics.jsonl").read_text().splitlines()
    return [(json.loads(row)["step"], json.loads(row)["loss"]) for row in rows]


def quiet(step, loss):
    pass


def same_weights(one, other):
    pairs = zip(one.state_dict().items(), other.state_dict().values(), strict=True)
    return [name for (name, a), b in pairs if not torch.equal(a, b)] == []


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
    assert same_weights(one, two)


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
    assert same_weights(load_checkpoint(tmp_path / "checkpoint").model, again.model)


@pytest.mark.parametrize("learn", ["lora", "head"])
def test_a_run_does_not_go_on_from_another_base_if_part_of_it_is_frozen(start, tmp_path, learn):
    tuner = start(tmp_path / "run", learn=learn)
    tuner.step()
    tuner.save()
    write_random_checkpoint(tmp_path / "other", ROBOT, seed=2)
    again = start(tmp_path / "run", tmp_path / "other", learn=learn)
    with pytest.raises(
        MoxinVlaError, match=r"state\.pt' is of a run that began with another base"
    ):
        again.resume()


def test_an_average_that_is_switched_on_later_begins_where_the_run_is(start, tmp_path):
    tuner = start(tmp_path)
    tuner.step()
    tuner.save()
    again = start(tmp_path, average=5)
    assert again.resume()
    again.save()  # the average, not the present weights
    assert same_weights(load_checkpoint(tmp_path / "checkpoint").model, tuner.model)


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


@pytest.mark.parametrize("augmented", [False, True])
def test_accumulated_parts_are_the_whole_batch(start, tmp_path, augmented):
    def curve(parts):
        tuner = start(tmp_path / str(parts), accumulate=parts, image_augmentation=augmented)
        return [tuner.step() for _ in range(3)]

    assert curve(4) == pytest.approx(curve(1), rel=1e-5)


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


def test_numbers_that_yaml_takes_for_text_are_numbers():
    config = TuneConfig(learning_rate="1e-3", steps="20")
    assert (config.learning_rate, config.steps) == (1e-3, 20)


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"accumulate": 0}, "accumulate: 0. Expected: at least 1"),
        ({"save_every": 0}, "save_every: 0. Expected: at least 1"),
        ({"batch_size": 0}, "batch_size: 0. Expected: at least 1"),
        ({"steps": -1}, "steps: -1. Expected: at least 1"),
        ({"steps": "abc"}, "steps: 'abc' is no int."),
        ({"steps": float("inf")}, "steps: 'inf' is no int."),
        ({"batch_size": 2.5}, "batch_size: '2.5' is no int."),
        ({"decay_at": None}, "decay_at: 'None' is no float."),
        ({"learning_rate": True}, "learning_rate: 'True' is no float."),
    ],
)
def test_numbers_that_can_not_be_meant_are_refused(setting, says):
    with pytest.raises(MoxinVlaError) as refusal:
        TuneConfig(**setting)
    assert str(refusal.value) == says
