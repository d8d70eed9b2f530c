import json
import shutil

import numpy as np
import pytest

from moxin_vla.core.errors import ObservationError, PolicyError
from moxin_vla.core.protocols import Policy
from moxin_vla.policy.moxin.policy import MoxinPolicy


@pytest.fixture(scope="module")
def policy(random_checkpoint) -> MoxinPolicy:
    return MoxinPolicy.load(random_checkpoint)


def _with_action_space(random_checkpoint, tmp_path, action_space):
    directory = shutil.copytree(random_checkpoint, tmp_path / action_space)
    content = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    content["moxin_vla"]["action_space"] = action_space
    (directory / "config.json").write_text(json.dumps(content), encoding="utf-8")
    return MoxinPolicy.load(directory)


def test_spec_comes_from_the_checkpoint(policy, embodiment):
    assert isinstance(policy, Policy)
    assert policy.spec.joints == embodiment.joint_names
    assert policy.spec.cameras == ("front", "wrist")
    assert (policy.spec.horizon, policy.spec.control_rate_hz) == (16, 20.0)
    assert len(policy.spec.fingerprint) == 16


def test_chunk_is_on_the_observations_clock(policy, observe, embodiment):
    chunk = policy.infer(observe(time_ns=123_000))
    assert chunk.observation_time_ns == 123_000
    assert chunk.step_ns == embodiment.step_ns
    assert chunk.actions.shape == (16, 6)
    assert chunk.actions.dtype == np.float64
    assert np.isfinite(chunk.actions).all()
    assert chunk.inference_ns > 0


def test_same_observation_gives_the_same_chunk(policy, observe, random_checkpoint):
    first = policy.infer(observe())
    policy.infer(observe(instruction="touch the blue cube"))
    policy.reset()
    np.testing.assert_array_equal(policy.infer(observe()).actions, first.actions)
    again = MoxinPolicy.load(random_checkpoint)
    np.testing.assert_array_equal(again.infer(observe()).actions, first.actions)


def test_offsets_are_added_to_the_observed_pose_but_not_to_the_gripper(
    policy, observe, random_checkpoint, tmp_path
):
    absolute = _with_action_space(random_checkpoint, tmp_path, "joint_position")
    proprio = observe().proprio
    difference = policy.infer(observe()).actions - absolute.infer(observe()).actions
    np.testing.assert_allclose(difference[:, :5], np.tile(proprio[:5], (16, 1)), atol=1e-12)
    np.testing.assert_array_equal(difference[:, 5], np.zeros(16))


def test_end_effector_actions_are_refused(random_checkpoint, observe, tmp_path):
    policy = _with_action_space(random_checkpoint, tmp_path, "end_effector_delta")
    with pytest.raises(PolicyError) as error:
        policy.infer(observe())
    assert str(error.value) == (
        "Policy 'random' acts in end_effector_delta. Robots here take: joint_position, joint_delta"
    )
    assert policy.actions(observe()).shape == (16, 6)


def test_observation_is_not_changed(policy, observe):
    observation = observe()
    images = {name: image.copy() for name, image in observation.images.items()}
    proprio = observation.proprio.copy()
    policy.infer(observation)
    np.testing.assert_array_equal(observation.proprio, proprio)
    for name, image in images.items():
        np.testing.assert_array_equal(observation.images[name], image)


def test_every_part_of_the_observation_matters(policy, observe):
    base = policy.infer(observe()).actions
    images = dict(observe().images)
    changes = (
        {"instruction": "touch the blue cube"},
        {"images": images | {"front": 255 - images["front"]}},
        {"images": images | {"wrist": 255 - images["wrist"]}},
        {"images": {"front": images["wrist"], "wrist": images["front"]}},
    )
    for change in changes:
        assert np.abs(policy.infer(observe(**change)).actions - base).max() > 1e-6, change
    moved = observe(proprio=-observe().proprio)
    offsets = policy.infer(moved).actions[:, :5] - moved.proprio[:5]
    assert np.abs(offsets - (base[:, :5] - observe().proprio[:5])).max() > 1e-6


def test_missing_camera_is_refused(policy, observe):
    images = {"front": observe().images["front"]}
    with pytest.raises(ObservationError) as error:
        policy.infer(observe(images=images))
    assert str(error.value) == "The policy needs camera 'wrist'. The observation has: front"


def test_wrong_number_of_joints_is_refused(policy, observe):
    with pytest.raises(ObservationError) as error:
        policy.infer(observe(proprio=np.zeros(5)))
    assert str(error.value) == (
        "The policy needs 6 joint positions (shoulder_pan, shoulder_lift, elbow_flex, "
        "wrist_flex, wrist_roll, gripper). Got: 5"
    )
