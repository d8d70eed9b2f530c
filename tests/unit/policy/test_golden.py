"""Numbers of the released family that must never move: token layout, pieces, grippers."""

from dataclasses import replace

import layouts
import numpy as np
import pytest
from tokenizers import Tokenizer, models

from moxin_vla.core.embodiment import ActionSpace, Gripper
from moxin_vla.core.errors import CheckpointError
from moxin_vla.core.types import Observation
from moxin_vla.policy.moxin.checkpoint import load_checkpoint
from moxin_vla.policy.moxin.config import MoxinConfig
from moxin_vla.policy.moxin.policy import MoxinPolicy
from moxin_vla.policy.moxin.policy_file import PolicyFile
from moxin_vla.policy.moxin.sequence import token_layout
from moxin_vla.policy.moxin.tokenizer import PromptTokenizer
from moxin_vla.policy.moxin.towers import known_tower, native_text, native_towers

_GRIPPER = Gripper("gripper", open=1.0, closed=-0.2)


def _large(**changes) -> MoxinConfig:
    values = {
        "name": "large",
        "towers": native_towers("dinosiglip-vit-so-224px"),
        "text": native_text("llama2-7b-pure"),
        "cameras": ("primary", "wrist"),
        "joints": tuple("abcdefg"),
        "proprio_names": tuple("abcdefgh"),
        "chunk": 8,
        "control_rate_hz": 20.0,
        "action_space": ActionSpace.JOINT_POSITION,
    }
    return MoxinConfig(**(values | changes))


def test_the_layout_of_libero_is_one_plus_512_plus_one_plus_prompt_plus_56_plus_one():
    layout = token_layout(_large(), prompt_length=34)
    assert layout.length == 1 + 512 + 1 + 33 + 56 + 1 == 604
    assert (layout.action_start, layout.action_stop) == (513 + 33, 513 + 33 + 56)
    assert layout.proprio == 513


def test_without_proprio_everything_moves_up_and_a_timestep_moves_it_back():
    assert token_layout(_large(proprio_names=()), 34).action_start == 545
    assert token_layout(_large(proprio_names=(), head="diffusion"), 34).action_start == 546
    assert token_layout(_large(head="diffusion"), 34).length == 605


def test_towers_of_the_large_models():
    dino, siglip = native_towers("dinosiglip-vit-so-224px")
    assert (dino.width, dino.depth, dino.blocks_used, dino.num_prefix_tokens) == (1024, 24, 23, 5)
    assert (siglip.width, siglip.depth, siglip.blocks_used, siglip.heads) == (1152, 27, 26, 16)
    assert siglip.mlp_dim == 4304 and dino.num_patches == siglip.num_patches == 256
    assert known_tower("vit_so400m_patch14_siglip_384", 384).num_patches == 27**2
    text = native_text("moxin-7b-pure")
    assert (text.num_hidden_layers, text.num_key_value_heads, text.rms_norm_eps) == (36, 8, 1e-5)


def _full_tokenizer(empty: int) -> Tokenizer:
    """A vocabulary of 32,000 pieces in which only the empty one's place matters."""
    vocabulary = {f"piece{i}": i for i in range(32000) if i != empty}
    vocabulary |= {"▁": empty, "<unk>": 0, "<s>": 1, "</s>": 2}
    for index in (0, 1, 2):
        vocabulary.pop(f"piece{index}", None)
    return Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", fuse_unk=True))


@pytest.mark.parametrize(("trunk", "empty"), [("llama2-7b-pure", 29871), ("moxin-7b-pure", 28705)])
def test_the_empty_piece_is_looked_up(trunk, empty):
    tokenizer = PromptTokenizer(_full_tokenizer(empty), _large(text=native_text(trunk)))
    assert tokenizer.empty_id == empty
    assert tokenizer.ids("go")[0] == 1 and tokenizer.ids("go")[-1] == empty


def test_the_tokenizer_of_the_other_trunk_is_refused_unless_it_is_meant():
    config = _large(text=native_text("moxin-7b-pure"))
    with pytest.raises(CheckpointError) as error:
        PromptTokenizer(_full_tokenizer(29871), config)
    assert str(error.value) == (
        "The tokenizer is not a mistral one: '▁' is 29871. Expected: 28705. "
        "If the trunk was trained with it, set empty_token_id."
    )
    meant = replace(config, empty_token_id=29871)
    assert PromptTokenizer(_full_tokenizer(28705), meant).empty_id == 29871


@pytest.fixture
def released(tmp_path, monkeypatch):
    layouts.small_towers(monkeypatch)
    config = layouts.tiny_config()
    return layouts.write_released(tmp_path, config, layouts.random_model(config))


def _policy(directory, convention, gripper):
    said = layouts.SAID | {"gripper_convention": convention}
    return MoxinPolicy(load_checkpoint(PolicyFile(str(directory), said)), gripper)


def _gripper(policy):
    images = {name: np.full((28, 28, 3), 90, np.uint8) for name in ("front", "wrist")}
    return policy.infer(Observation(0, images, np.zeros(6), "go")).actions[:, 5]


def test_how_far_open_becomes_the_embodiments_targets(released):
    raw = _gripper(_policy(released, "joint", None))
    share = np.clip(raw, 0, 1)
    found = _gripper(_policy(released, "open_is_one", _GRIPPER))
    np.testing.assert_allclose(found, -0.2 + 1.2 * share)
    inverted = _gripper(_policy(released, "open_is_zero", _GRIPPER))
    np.testing.assert_allclose(inverted, -0.2 + 1.2 * np.clip(1 - raw, 0, 1))


def test_with_a_threshold_the_gripper_is_open_or_closed(released):
    raw = _gripper(_policy(released, "joint", None))
    threshold = float(np.clip(raw[0], 0.05, 0.95))
    gripper = replace(_GRIPPER, threshold=threshold)
    found = _gripper(_policy(released, "open_is_one", gripper))
    assert set(found) <= {1.0, -0.2}
    np.testing.assert_array_equal(found == 1.0, np.clip(raw, 0, 1) > threshold)


def test_a_gripper_that_can_not_be_told_is_refused(released):
    with pytest.raises(CheckpointError) as error:
        _policy(released, "open_is_one", replace(_GRIPPER, joint="jaw"))
    assert str(error.value) == (
        "The checkpoint's gripper is 'open_is_one', and which dim it is can't be told. Expected "
        f"the embodiment's gripper joint among: {', '.join(layouts.JOINTS)}. Got: jaw"
    )


def test_the_gripper_outside_the_mask_is_not_scaled(released):
    statistics = load_checkpoint(PolicyFile(str(released), layouts.SAID)).statistics
    values = statistics.action.unnormalise(np.full(6, 0.5))
    assert values[5] == 0.5 and values[0] == pytest.approx(0.75 * (1 + 1e-8) - 0.5)
