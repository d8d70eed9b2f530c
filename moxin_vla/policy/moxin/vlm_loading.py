"""Loading a vision-language model: released, or native with its towers from timm's own files."""

from pathlib import Path

import torch

from moxin_vla.core.errors import CheckpointError, DependencyError
from moxin_vla.policy.moxin.architecture import VisionTowerConfig
from moxin_vla.policy.moxin.checkpoint import materialise
from moxin_vla.policy.moxin.hub import find_checkpoint
from moxin_vla.policy.moxin.layout import gather, is_native
from moxin_vla.policy.moxin.opening import mismatches, read_json, used_by
from moxin_vla.policy.moxin.preprocess import tower_params
from moxin_vla.policy.moxin.timm_towers import open_towers
from moxin_vla.policy.moxin.tokenizer import load_tokenizer
from moxin_vla.policy.moxin.vlm import MoxinVLM, Vlm, is_vlm, vlm_config
from moxin_vla.policy.moxin.weights import Weights


def load_vlm(
    source: str | Path,
    device: str = "cpu",
    tokenizer: str | None = None,
    towers: tuple[str, ...] = (),
) -> Vlm:
    """Load a model that answers questions.

    Args:
        source: Directory or Hugging Face id.
        device: Where it shall be; bfloat16 on a GPU, the file's own arithmetic on a CPU.
        tokenizer: File, directory or Hugging Face id of the tokenizer, for native checkpoints.
        towers: Files or Hugging Face ids of the timm towers, in the model's order, for native
            checkpoints, which leave frozen towers out.

    Raises:
        CheckpointError: A file is missing, damaged or inconsistent, or it is no such model.
        DependencyError: The device is not there.
    """
    directory = find_checkpoint(source)
    content = read_json(directory / "config.json")
    if not is_vlm(directory, content):
        raise CheckpointError(
            f"'{directory}' acts instead of answering. Expected a Prismatic model, such as "
            "Moxin-VLM."
        )
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise DependencyError(f"Device '{device}' was asked for, and torch sees no GPU. Use: cpu")
    config = vlm_config(content, directory.name)
    weights = gather(directory).weights
    if is_native(directory) and not any(name.startswith("vision_backbone.") for name in weights):
        weights |= open_towers(towers, config.towers)
    with torch.device("meta"):
        model = MoxinVLM(config)
    _check(model, weights, config.towers, directory)
    embedding = weights["language_model.model.embed_tokens.weight"]
    dtype = embedding.dtype if device == "cpu" else torch.bfloat16
    materialise(model, weights, dtype, torch.device(device))
    file = directory / "preprocessor_config.json"
    params = tower_params(read_json(file) if file.is_file() else {}, config.towers)
    columns = [[v for p in params for v in p[name]] for name in ("mean", "std")]
    return Vlm(model.eval(), load_tokenizer(_tokenizer(directory, tokenizer)), *columns)


def _tokenizer(directory: Path, named: str | None) -> Path:
    root = directory if named is None else Path(named)
    if named is not None and not root.exists():
        root = find_checkpoint(named)
    return root / "tokenizer.json" if root.is_dir() else root


def _check(
    model: MoxinVLM, weights: Weights, towers: tuple[VisionTowerConfig, ...], directory: Path
) -> None:
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = used_by(weights, towers, lm_head=True)
    if problems := mismatches(expected, found):
        raise CheckpointError(
            f"The weights in '{directory}' don't fit its config.json.\n  " + "\n  ".join(problems)
        )
