"""Costs against the published figures of the large shapes, and by hand on a small one."""

import pytest

from moxin_vla.core.embodiment import ActionSpace
from moxin_vla.policy.moxin.config import MoxinConfig
from moxin_vla.policy.moxin.costs import costs
from moxin_vla.policy.moxin.towers import known_tower, native_text


def _large(trunk: str) -> MoxinConfig:
    names = ("vit_large_patch14_reg4_dinov2", "vit_so400m_patch14_siglip")
    return MoxinConfig(
        name="large",
        towers=tuple(known_tower(name, 224) for name in names),
        text=native_text(trunk),
        cameras=("primary", "wrist"),
        joints=tuple("abcdefg"),
        proprio_names=tuple("abcdefgh"),
        chunk=8,
        control_rate_hz=20.0,
        action_space=ActionSpace.JOINT_POSITION,
    )


def test_moxin_vla_takes_ten_and_a_half_teraflop_over_603_tokens():
    spent = costs(_large("moxin-7b-pure"), prompt_length=33)
    assert spent.tokens == 603
    assert spent.flop == pytest.approx(10.5e12, rel=0.03)
    assert spent.trunk_flop == pytest.approx(9.68e12, rel=0.03)
    assert 2 * spent.parameters == pytest.approx(17.6e9, rel=0.04)


def test_llama_takes_less():
    spent = costs(_large("llama2-7b-pure"), prompt_length=33)
    assert spent.flop == pytest.approx(8.9e12, rel=0.05)
