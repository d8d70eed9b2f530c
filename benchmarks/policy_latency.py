"""How long a chunk takes: our path, the same weights through eager transformers, and the floor.

    python benchmarks/policy_latency.py                     # nano and mid on what there is
    python benchmarks/policy_latency.py --model 8.9b        # random weights of the large shapes

Both paths run in turns in one process, so that a busy machine slows both. Ours begins with camera
images as bytes; the reference begins with prepared pixels, which favours it.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from reference_assembly import ReferenceAssembly
from rich.console import Console
from rich.table import Table

from moxin_vla.core.embodiment import ActionSpace
from moxin_vla.policy.moxin.architecture import TextConfig, VisionTowerConfig
from moxin_vla.policy.moxin.config import MoxinConfig
from moxin_vla.policy.moxin.costs import costs
from moxin_vla.policy.moxin.fast import FastModel
from moxin_vla.policy.moxin.model import MoxinVLA
from moxin_vla.policy.moxin.preprocess import default_preprocessor, load_preprocessor
from moxin_vla.policy.moxin.towers import known_tower, native_text

PROMPT_LENGTH = 33  # 'In: What action should the robot take to ...' of LIBERO's length
_JOINTS = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")


def _config(
    towers: tuple[VisionTowerConfig, ...], text: TextConfig, chunk: int = 8
) -> MoxinConfig:
    return MoxinConfig(
        name="benchmark",
        towers=towers,
        text=text,
        cameras=("primary", "wrist"),
        joints=_JOINTS,
        proprio_names=tuple("abcdefgh"),
        chunk=8,
        control_rate_hz=20.0,
        action_space=ActionSpace.JOINT_POSITION,
    )


def _nano() -> MoxinConfig:
    from moxin_vla.core.resources import resource_path
    from moxin_vla.policy.moxin.config_io import config_from_json
    from moxin_vla.policy.moxin.opening import read_json

    folder = resource_path("checkpoints/moxin-nano-so101")
    config = config_from_json(read_json(folder / "config.json"))
    return replace(config, film=False, action_prefix=False)  # the assembly has no FiLM


def _mid() -> MoxinConfig:
    dino = VisionTowerConfig("dino", 224, 14, 384, 12, 6, 1536, 5, True, 11)
    siglip = VisionTowerConfig("siglip", 224, 14, 384, 12, 6, 1536, 0, False, 11)
    return _config((dino, siglip), TextConfig("mistral", 32064, 512, 1536, 12, 8, 2))


def _large(trunk: str) -> MoxinConfig:
    names = ("vit_large_patch14_reg4_dinov2", "vit_so400m_patch14_siglip")
    return _config(tuple(known_tower(name, 224) for name in names), native_text(trunk))


MODELS: dict[str, Callable[[], MoxinConfig]] = {
    "nano": _nano,
    "mid": _mid,
    "7b": lambda: _large("llama2-7b-pure"),
    "8.9b": lambda: _large("moxin-7b-pure"),
}


@dataclass(frozen=True, slots=True)
class Peak:
    """Measured ceilings of this device: [FLOP/s] of a large product, [B/s] of a large copy."""

    flops: float
    bandwidth: float


def measure_peak(device: torch.device, dtype: torch.dtype) -> Peak:
    """Measure both ceilings in this run."""
    side = 8192 if device.type == "cuda" else 1024
    a = torch.randn(side, side, device=device, dtype=dtype)
    data = torch.empty(2**28 if device.type == "cuda" else 2**26, device=device)
    product = min(timed(lambda: a @ a, device) for _ in range(10))
    copied = min(timed(lambda: data.clone(), device) for _ in range(10))
    return Peak(2 * side**3 / product, 2 * data.numel() * 4 / copied)


def timed(call: Callable[[], object], device: torch.device) -> float:
    """Return the wall time of a call in [s], all its work done."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def build(config: MoxinConfig, device: torch.device, dtype: torch.dtype) -> MoxinVLA:
    """Return a model with random weights of a sensible size."""
    with torch.device("meta"):
        model = MoxinVLA(config)
    model = model.to(dtype).to_empty(device=device).eval()
    generator = torch.Generator(device).manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name and name.endswith("weight"):
                parameter.fill_(1.0)
            else:
                parameter.normal_(std=0.02, generator=generator)
    return model


def run(name: str, device: torch.device, iterations: int, console: Console) -> None:
    """Measure one model and print it."""
    config = MODELS[name]()
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    model = build(config, device, dtype)
    reference = ReferenceAssembly(model).to(device, dtype).eval()
    preprocessor = load_preprocessor(default_preprocessor(config), config)
    rng = np.random.default_rng(0)
    side = config.image_size
    images = rng.integers(0, 256, (1, 2, side, side, 3), dtype=np.uint8)
    limit = config.text.vocab_size
    ids = torch.tensor([[1, *rng.integers(4, limit, PROMPT_LENGTH - 1).tolist()]], device=device)
    proprio = torch.zeros(1, config.proprio_dim, device=device)
    pixels = preprocessor.pixel_values(images, device).to(dtype)
    fast = FastModel(model)

    def ours() -> torch.Tensor:
        return fast.predict(preprocessor.pixel_values(images, device).to(dtype), ids, proprio)

    paths: dict[str, Callable[[], torch.Tensor]] = {
        "ours": ours,
        "eager transformers": lambda: reference(pixels, ids, proprio.to(dtype)),
    }
    times: dict[str, list[float]] = {path: [] for path in paths}
    with torch.inference_mode():
        results = {path: call().float() for path, call in paths.items()}
        for _ in range(iterations + 3):
            for path, call in paths.items():
                times[path].append(1e3 * timed(call, device))
    _report(name, config, times, results, measure_peak(device, dtype), dtype, console)


def _report(
    name: str,
    config: MoxinConfig,
    times: dict[str, list[float]],
    results: dict[str, torch.Tensor],
    peak: Peak,
    dtype: torch.dtype,
    console: Console,
) -> None:
    spent = costs(config, PROMPT_LENGTH)
    table = Table(
        title=f"{name}: {spent.parameters / 1e6:,.0f} M weights read, {spent.tokens} tokens, "
        f"{spent.flop / 1e9:,.1f} GFLOP, {str(dtype).removeprefix('torch.')}"
    )
    for column in ("path", "median ms", "p99 ms", "ratio"):
        table.add_column(column, justify="left" if column == "path" else "right")
    medians = {path: float(np.median(values[3:])) for path, values in times.items()}
    for path, values in times.items():
        p99 = float(np.percentile(values[3:], 99))
        ratio = medians["eager transformers"] / medians[path]
        table.add_row(path, f"{medians[path]:.1f}", f"{p99:.1f}", f"{ratio:.2f}")
    compute = 1e3 * spent.flop / peak.flops
    memory = 1e3 * spent.parameters * dtype.itemsize / peak.bandwidth
    floor = max(compute, memory)
    table.add_row("floor of this device", f"{floor:.1f}", "", f"{floor / medians['ours']:.0%}")
    console.print(table)
    ours, theirs = results.values()
    console.print(
        f"floor: compute {compute:.1f} ms at {peak.flops / 1e9:,.0f} GFLOP/s measured, memory "
        f"{memory:.1f} ms at {peak.bandwidth / 1e9:.1f} GB/s measured; its ratio is the share "
        f"that ours reaches\nlargest difference of normalised actions: "
        f"{float((ours - theirs).abs().max()):.2g}"
    )


def main() -> None:
    """Parse arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="+", choices=MODELS, default=["nano", "mid"])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--iterations", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1, help="of torch, on a CPU")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device, console = torch.device(args.device), Console()
    kind = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {args.threads} thread"
    console.print(f"device: {kind}, torch {torch.__version__}")
    for name in args.model:
        run(name, device, args.iterations, console)


if __name__ == "__main__":
    main()
