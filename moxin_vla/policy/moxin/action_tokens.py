"""Discrete actions: the last 256 text pieces of the vocabulary are the bins of [-1, 1].

Piece `vocabulary - padding - 1 - i` is bin i; a bin is decoded to its centre (openvla/openvla,
`action_tokenizer.py`).
"""

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from moxin_vla.policy.moxin.config import MoxinConfig


class ActionTokens:
    """Token ids to normalised actions and back.

    Args:
        config: For the size of the vocabulary and the number of bins.
    """

    def __init__(self, config: MoxinConfig) -> None:
        self._end = config.text.vocab_size - config.vocabulary_padding
        self._edges = np.linspace(-1.0, 1.0, config.action_bins)
        self._centres = (self._edges[:-1] + self._edges[1:]) / 2

    def ids(self, actions: ArrayLike) -> NDArray[np.int64]:
        """Map normalised actions (...) to ids (...)."""
        clipped = np.clip(np.asarray(actions, np.float64), -1.0, 1.0)
        return self._end - np.digitize(clipped, self._edges)

    def actions(self, ids: Tensor) -> Tensor:
        """Map ids (...) to normalised actions (...), float64.

        An id that is no action token becomes the nearest bin, as in the released code.
        """
        bins = (self._end - ids - 1).clamp(0, len(self._centres) - 1)
        return torch.from_numpy(self._centres).to(ids.device)[bins]
