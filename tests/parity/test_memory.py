"""How much memory loading a checkpoint takes: the weights and little more."""

import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

_MEASURE = """
import sys
from pathlib import Path
import torch
from moxin_vla.policy.moxin.weights import moved, open_pickle, open_safetensors, stored_tensors
def status(name):
    for line in open("/proc/self/status"):
        if line.startswith(name):
            return int(line.split()[1]) * 1024
file, dtype = Path(sys.argv[1]), getattr(torch, sys.argv[2])
weights = open_safetensors(file) if file.suffix == ".safetensors" else (
    stored_tensors(open_pickle(file), file))
before = status("VmRSS")
held = {name: moved(stored, dtype, torch.device("cpu")) for name, stored in weights.items()}
size = sum(t.numel() * t.element_size() for t in held.values())
print((status("VmHWM") - before) / size)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_loading_holds_the_weights_and_little_more(tmp_path, suffix, dtype):
    file = tmp_path / f"weights.{suffix}"
    tensors = {f"w{i}": torch.rand(1024, 1024) for i in range(64)}
    save_file(tensors, file) if suffix == "safetensors" else torch.save(tensors, file)
    command = [sys.executable, "-c", _MEASURE, str(file), dtype]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert float(output) <= 1.1
