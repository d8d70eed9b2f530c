"""Keys and values of tokens that were computed already, for decoding token by token."""

import torch
from torch import Tensor

from moxin_vla.policy.moxin.architecture import TextConfig


class KeyValueCache:
    """Room for `capacity` tokens in every layer, written in place.

    Args:
        config: The trunk.
        batch: Sequences B.
        capacity: Tokens that fit.
        like: A tensor whose device and dtype are taken.
    """

    def __init__(self, config: TextConfig, batch: int, capacity: int, like: Tensor) -> None:
        shape = (
            config.num_hidden_layers,
            batch,
            config.num_key_value_heads,
            capacity,
            config.head_dim,
        )
        self._keys = torch.empty(shape, dtype=like.dtype, device=like.device)
        self._values = torch.empty_like(self._keys)
        self.length = 0

    @property
    def capacity(self) -> int:
        """Tokens that fit."""
        return self._keys.shape[3]

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Append a layer's keys and values (B, key-value heads, S, head_dim).

        Returns all of them, the former ones first. `length` moves only by `advance`, once every
        layer has written.
        """
        stop = self.length + keys.shape[2]
        self._keys[layer, :, :, self.length : stop] = keys
        self._values[layer, :, :, self.length : stop] = values
        return self._keys[layer, :, :, :stop], self._values[layer, :, :, :stop]

    def advance(self, tokens: int) -> None:
        """Count tokens that every layer has written."""
        self.length += tokens
