import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from moxin_vla.core.errors import DependencyError, EmbodimentError, PolicyError
from moxin_vla.policy.loading import load_policy


def test_checkpoint_loads_for_its_robot(random_checkpoint, embodiment):
    assert load_policy(str(random_checkpoint), embodiment).spec.joints == embodiment.joint_names


def test_checkpoint_of_another_robot_is_refused(random_checkpoint, embodiment):
    joints = embodiment.joints
    other = replace(embodiment, name="other", joints=(joints[1], joints[0], *joints[2:]))
    with pytest.raises(EmbodimentError) as error:
        load_policy(str(random_checkpoint), other)
    rest = "elbow_flex, wrist_flex, wrist_roll, gripper"
    assert str(error.value) == (
        "Policy 'random' does not fit embodiment 'other': joints differ.\n"
        f"  found in the checkpoint:    shoulder_pan, shoulder_lift, {rest}\n"
        f"  expected by the embodiment: shoulder_lift, shoulder_pan, {rest}"
    )


def test_checkpoint_that_needs_an_unknown_camera_is_refused(random_checkpoint, embodiment):
    other = replace(embodiment, cameras=embodiment.cameras[:1])
    with pytest.raises(EmbodimentError) as error:
        load_policy(str(random_checkpoint), other)
    assert str(error.value) == "Unknown camera 'wrist'. Embodiment 'so101_sim' has: front"


def test_checkpoint_of_another_rate_is_refused(random_checkpoint, embodiment):
    other = replace(embodiment, control_rate_hz=50.0)
    with pytest.raises(EmbodimentError) as error:
        load_policy(str(random_checkpoint), other)
    assert str(error.value) == (
        "Policy 'random' was trained at 20.0 Hz. Embodiment 'so101_sim' runs at 50.0 Hz."
    )


def test_unknown_source_lists_the_alternatives(embodiment):
    with pytest.raises(PolicyError) as error:
        load_policy("no/such/place", embodiment)
    assert str(error.value) == (
        "There is no policy 'no/such/place'. Expected: a checkpoint directory, a policy file "
        "(.yaml), a Hugging Face id (owner/name), or one of scripted:hold, scripted:sweep, "
        "scripted:nan"
    )


def test_unknown_scripted_policy_lists_the_known_ones(embodiment):
    with pytest.raises(PolicyError) as error:
        load_policy("scripted:dance", embodiment)
    assert str(error.value) == ("Unknown scripted policy 'dance'. Choose from: hold, sweep, nan")


def test_without_torch_the_extra_is_named(random_checkpoint, embodiment, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(DependencyError, match=r"pip install 'moxin_vla\[policy\]'"):
        load_policy(str(random_checkpoint), embodiment)


def test_scripted_policies_import_no_torch():
    code = (
        "import sys\n"
        "from moxin_vla.core.embodiment import load_embodiment\n"
        "from moxin_vla.core.resources import resource_path\n"
        "from moxin_vla.policy.loading import load_policy\n"
        "robot = load_embodiment(resource_path('config/embodiments/so101_sim.yaml'))\n"
        "load_policy('scripted:sweep', robot)\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_hold_stays_where_the_robot_is(embodiment, observe):
    chunk = load_policy("scripted:hold", embodiment).infer(observe())
    np.testing.assert_array_equal(chunk.actions, np.tile(observe().proprio, (16, 1)))


def test_sweep_goes_on_where_the_last_chunk_would_be(embodiment, observe):
    policy = load_policy("scripted:sweep", embodiment)
    first = policy.infer(observe(time_ns=0))
    second = policy.infer(observe(time_ns=8 * embodiment.step_ns))
    np.testing.assert_allclose(second.actions[:8], first.actions[8:], atol=1e-12)
    steps = np.diff(np.vstack([observe().proprio, first.actions]), axis=0)
    assert 0.0 < np.abs(steps[:, 0]).max() * embodiment.control_rate_hz < 1.0  # [rad/s]
    assert not steps[:, 1:].any()


def test_sweep_starts_again_after_a_reset(embodiment, observe):
    policy = load_policy("scripted:sweep", embodiment)
    first = policy.infer(observe(time_ns=0))
    policy.reset()
    later = policy.infer(observe(time_ns=10**9))
    np.testing.assert_array_equal(later.actions, first.actions)


def test_nan_comes_after_one_good_chunk(embodiment, observe):
    policy = load_policy("scripted:nan", embodiment)
    assert np.isfinite(policy.infer(observe(time_ns=0)).actions).all()
    assert np.isnan(policy.infer(observe(time_ns=1)).actions).all()
