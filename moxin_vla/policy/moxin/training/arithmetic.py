"""Where bfloat16 is faster than float32, and where it is emulated."""

import torch

_CPU_UNITS = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")  # x86, then Arm


def bf16_pays(device: str) -> bool:
    """Return whether a device has units that multiply bfloat16.

    A CPU without them emulates it: a training step of moxin-nano then took 4.5 s instead of 0.5 s
    (AMD EPYC with AVX2, one thread).

    Args:
        device: Torch device.
    """
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    has = torch.cpu.get_capabilities()
    return any(has.get(unit, False) for unit in _CPU_UNITS)
