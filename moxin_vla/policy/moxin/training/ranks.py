"""Several processes that train one model together, one per GPU: `torchrun` starts them.

All draw the same samples, each computes its share of every batch, and gradients are summed: the
result is that of one process up to the order of a sum. Without torchrun there is one process.
"""

import os
from collections.abc import Iterator, Sequence
from datetime import timedelta

import torch
from torch import Tensor, distributed

_PATIENCE = timedelta(hours=12)  # others wait while the first one decodes images or evaluates


class Ranks:
    """What this process is among the others.

    Args:
        device: `cpu`, or `cuda`, of which each process takes the one with its number.
    """

    def __init__(self, device: str = "cpu") -> None:
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        self.index = int(os.environ.get("RANK", "0"))
        self.device = device
        if self.count > 1:
            if device.startswith("cuda"):
                self.device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
                torch.cuda.set_device(self.device)
            backend = "nccl" if device.startswith("cuda") else "gloo"
            distributed.init_process_group(backend, timeout=_PATIENCE)

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes, prints and evaluates."""
        return self.index == 0

    def share(self, size: int, parts: int) -> Iterator[slice]:
        """Yield this process' slices of a batch that all compute in `parts` each."""
        part = size // (parts * self.count)
        for k in range(parts):
            start = (k * self.count + self.index) * part
            yield slice(start, start + part)

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Sum each tensor over all processes, in place."""
        if self.count == 1:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        distributed.all_reduce(flat)
        torch._foreach_copy_(
            list(tensors),
            [
                piece.view_as(tensor)
                for piece, tensor in zip(
                    flat.split([tensor.numel() for tensor in tensors]), tensors, strict=True
                )
            ],
        )

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.count > 1:
            distributed.barrier()

    def close(self) -> None:
        """Part from the others."""
        if self.count > 1:
            distributed.destroy_process_group()
