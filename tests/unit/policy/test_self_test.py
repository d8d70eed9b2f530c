"""The self-test finds policies that are blind, deaf, masked wrongly or careless."""

import shutil

import numpy as np
import pytest
import torch

from moxin_vla.core.errors import PolicyError
from moxin_vla.core.protocols import PolicySpec
from moxin_vla.core.resources import resource_path
from moxin_vla.core.types import ActionChunk
from moxin_vla.policy.loading import load_policy
from moxin_vla.policy.moxin.checkpoint import load_checkpoint
from moxin_vla.policy.moxin.probe import attention_probe
from moxin_vla.policy.self_test import require, self_test


class _Fake:
    """A policy whose action is a sum over what it cares for."""

    def __init__(self, embodiment, cares=("front", "wrist", "instruction"), value=1.0):
        self.cares, self.value = cares, value
        self.spec = PolicySpec("fake", embodiment.joint_names, embodiment.camera_names, 2, 20.0)

    def reset(self):
        pass

    def infer(self, observation):
        total = self.value
        for weight, name in enumerate(self.cares, 1):
            seen = observation.images.get(name)
            total += weight * (len(observation.instruction) if seen is None else seen.mean())
        return ActionChunk(observation.time_ns, 50_000_000, np.full((2, 6), total))


def _failed(policy, embodiment):
    return [check.name for check in self_test(policy, embodiment) if not check.passed]


def test_a_policy_that_looks_and_listens_passes(embodiment):
    assert _failed(_Fake(embodiment), embodiment) == []


def test_a_blind_policy_is_found(embodiment):
    assert _failed(_Fake(embodiment, cares=("instruction",)), embodiment) == [
        "another image changes the actions",
        "the order of cameras matters",
    ]


def test_a_deaf_policy_is_found(embodiment):
    assert _failed(_Fake(embodiment, cares=("front", "wrist")), embodiment) == [
        "another instruction changes the actions"
    ]


def test_cameras_that_are_mixed_up_are_found(embodiment):
    policy = _Fake(embodiment)
    base = policy.infer

    def mixed(observation):
        total = sum(float(image.mean()) for image in observation.images.values())
        actions = np.full((2, 6), total + len(observation.instruction))
        return ActionChunk(observation.time_ns, 50_000_000, actions)

    policy.infer = mixed
    assert _failed(policy, embodiment) == ["the order of cameras matters"]
    assert base is not mixed


def test_nan_is_found(embodiment):
    assert _failed(_Fake(embodiment, value=float("nan")), embodiment)[0] == "outputs are finite"


def test_failures_are_one_message(embodiment):
    with pytest.raises(PolicyError) as error:
        require(self_test(_Fake(embodiment, cares=("front", "wrist")), embodiment), "fake")
    assert str(error.value) == (
        "Policy 'fake' failed its self-test and must not move a robot.\n"
        "  another instruction changes the actions: largest difference 0"
    )


@pytest.mark.parametrize("attention", ["bidirectional", "causal"])
def test_the_probe_sees_the_mask(random_checkpoint, attention):
    checkpoint = load_checkpoint(random_checkpoint)
    object.__setattr__(checkpoint.model.config, "attention", attention)
    check = attention_probe(checkpoint)
    assert check.passed and check.name == f"attention is {attention}"


def test_a_causal_mask_where_bidirectional_is_asked_is_found(random_checkpoint, monkeypatch):
    from moxin_vla.policy.moxin import trunk

    checkpoint = load_checkpoint(random_checkpoint)
    plain = trunk.Trunk.forward
    monkeypatch.setattr(
        trunk.Trunk,
        "forward",
        lambda self, x, positions, keep, causal, **rest: plain(
            self, x, positions, keep, True, **rest
        ),
    )
    check = attention_probe(checkpoint)
    assert not check.passed
    assert check.seen == "the first state moved by 0 when the last slot changed"


def test_a_blind_checkpoint_is_refused_unless_the_test_is_left_out(
    random_checkpoint, embodiment, tmp_path
):
    directory = shutil.copytree(random_checkpoint, tmp_path / "blind")
    from safetensors.torch import load_file, save_file

    tensors = load_file(directory / "model.safetensors")
    for name in tensors:
        if name.startswith("projector.fc3"):
            tensors[name] = torch.zeros_like(tensors[name])
    save_file(tensors, directory / "model.safetensors")
    with pytest.raises(PolicyError, match="another image changes the actions: largest differ"):
        load_policy(str(directory), embodiment)
    load_policy(str(directory), embodiment, test=False)


def test_moxin_nano_passes(embodiment):
    load_policy(str(resource_path("checkpoints/moxin-nano-so101")), embodiment)


def test_a_pose_outside_the_training_data_names_its_joints(embodiment):
    spec = PolicySpec("p", ("a", "b"), (), 1, 20.0, proprio_range=((-1.0, 1.0), (0.0, 2.0)))
    assert spec.outside(np.array([1.15, -0.1])) == ()
    assert spec.outside(np.array([1.3, 5.0])) == ("a", "b")
    assert spec.outside(np.array([0.0, -0.3])) == ("b",)
