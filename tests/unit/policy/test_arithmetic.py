"""bfloat16 is used where a device has units for it."""

import pytest
import torch

from moxin_vla.policy.moxin.training.arithmetic import bf16_pays


@pytest.mark.parametrize(
    ("found", "pays"),
    [
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": False}, False),
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
        ({"architecture": "aarch64", "bf16": True}, True),
        ({}, False),
    ],
)
def test_a_cpu_multiplies_bfloat16_only_with_units_for_it(monkeypatch, found, pays):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    assert bf16_pays("cpu") is pays


def test_a_gpu_is_asked_for_its_own_units(monkeypatch):
    asked = []

    def supported(including_emulation):
        asked.append(including_emulation)
        return True

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert bf16_pays("cuda:1") and asked == [False]
