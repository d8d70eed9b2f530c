"""Tensors on disk, looked at without being read: names, shapes, files.

Nothing is read before `Stored.read`; files are memory-mapped, and what was copied elsewhere is let
go of at once, so loading never holds more than the model and one tensor.
"""

import ctypes
import json
import mmap
import pickle
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from moxin_vla.core.errors import CheckpointError, listed

# What safetensors and torch raise for damaged files; torch answers some truncations with OSError.
UNREADABLE = (SafetensorError, RuntimeError, OSError, EOFError, pickle.UnpicklingError, ValueError)
INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
_DONT_NEED = 4  # MADV_DONTNEED on Linux


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor in a file.

    Attributes:
        shape: Its shape.
        dtype: Its dtype.
        file: Where it is.
        read: Returns it, memory-mapped where the file allows.
        mapped: True if what `read` returns is the mapped file itself, unchanged.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    file: Path
    read: Callable[[], Tensor]
    mapped: bool = True

    @property
    def numel(self) -> int:
        """Number of values."""
        return int(torch.Size(self.shape).numel())


Weights = dict[str, Stored]


def trunk_files(directory: Path) -> list[Path]:
    """Return the safetensors files of a directory: one, or the shards of its index.

    Raises:
        CheckpointError: There are none, or a shard is missing.
    """
    index = directory / INDEX
    if not index.is_file():
        single = directory / SINGLE
        if not single.is_file():
            raise CheckpointError(f"The checkpoint has no weights: '{single}' is missing.")
        return [single]
    files = [directory / name for name in sorted(set(_weight_map(index).values()))]
    if missing := [file.name for file in files if not file.is_file()]:
        raise CheckpointError(
            f"The checkpoint is incomplete: {listed(missing)} missing in '{directory}', "
            f"which {INDEX} names."
        )
    return files


def open_trunk(directory: Path) -> Weights:
    """Look at every tensor of a directory's safetensors files.

    Raises:
        CheckpointError: A file is missing or damaged, or the index names other tensors.
    """
    weights: Weights = {}
    for file in trunk_files(directory):
        weights |= open_safetensors(file)
    index = directory / INDEX
    if index.is_file() and (absent := sorted(_weight_map(index).keys() - weights.keys())):
        raise CheckpointError(
            f"'{index}' names {len(absent)} tensors that its files don't hold: "
            f"{listed(absent[:5])}"
        )
    return weights


def _weight_map(index: Path) -> dict[str, str]:
    try:
        return json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise CheckpointError(f"'{index}' is not an index of weights: {error!r}") from None


def open_safetensors(file: Path) -> Weights:
    """Look at the tensors of one safetensors file."""
    try:
        with safe_open(file, "pt") as opened:
            names = list(opened.keys())
            slices = {name: opened.get_slice(name) for name in names}
            return {
                name: Stored(
                    tuple(slices[name].get_shape()),
                    _DTYPES[slices[name].get_dtype()],
                    file,
                    partial(_read_safetensor, file, name),
                )
                for name in names
            }
    except UNREADABLE as error:
        raise damaged(file, error) from None
    except KeyError as error:
        raise CheckpointError(f"'{file}' holds tensors of the unknown type {error}.") from None


_DTYPES = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F64": torch.float64,
    "I64": torch.int64,
}


def _read_safetensor(file: Path, name: str) -> Tensor:
    try:
        with safe_open(file, "pt") as opened:
            return opened.get_tensor(name)
    except UNREADABLE as error:
        raise damaged(file, error) from None


def open_pickle(file: Path) -> Mapping[str, Any]:
    """Open a `.pt` file, as weights only and memory-mapped; returns its content.

    Raises:
        CheckpointError: It is damaged, or holds anything but tensors in plain containers.
    """
    try:
        content = torch.load(file, weights_only=True, map_location="cpu", mmap=True)
    except UNREADABLE as error:
        raise damaged(file, error) from None
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"'{file}' holds no tensors by name. Found: {type(content).__name__}"
        )
    return content


def stored_tensors(tensors: Mapping[str, Any], file: Path) -> Weights:
    """Wrap tensors that were opened with `open_pickle`."""
    strange = [name for name, tensor in tensors.items() if not isinstance(tensor, Tensor)]
    if strange:
        raise CheckpointError(f"'{file}' holds entries that are no tensors: {listed(strange[:5])}")
    return {
        name: Stored(tuple(tensor.shape), tensor.dtype, file, lambda tensor=tensor: tensor)
        for name, tensor in tensors.items()
    }


def damaged(file: Path, error: Exception) -> CheckpointError:
    """Return the error for a file that can't be read."""
    first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return CheckpointError(f"'{file}' is damaged or not a weights file: {first_line}")


def moved(stored: Stored, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Read a tensor, copy it to its dtype and device, and let go of the mapped file.

    Always a copy: a file that is overwritten in place must not change a policy that is running.
    """
    original = stored.read()
    tensor = original.to(device=device, dtype=dtype, copy=True)
    if stored.mapped and sys.platform.startswith("linux"):
        _let_go(original)
    return tensor


def _let_go(tensor: Tensor) -> None:
    """Drop the mapped pages of a tensor from memory; they would be read again if needed."""
    page = mmap.PAGESIZE
    start = -(-tensor.data_ptr() // page) * page  # whole pages of this tensor only
    stop = (tensor.data_ptr() + tensor.numel() * tensor.element_size()) // page * page
    if stop > start:
        _libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(stop - start), _DONT_NEED)


_libc = ctypes.CDLL(None, use_errno=True)
