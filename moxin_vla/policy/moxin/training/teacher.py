"""Training-only heads that ask the model where the named object is. Never saved in a checkpoint,
absent at run time.
"""

import torch
from torch import Tensor, nn

from moxin_vla.policy.moxin.config import MoxinConfig
from moxin_vla.policy.moxin.model import MoxinOutput
from moxin_vla.policy.moxin.training.objective import VECTOR_SIZE


class Teacher(nn.Module):
    """Reads vision tokens and trunk states.

    The patch head is linear on the towers' output, so that the instruction has to act inside the
    towers (FiLM) to satisfy it.
    """

    def __init__(self, config: MoxinConfig) -> None:
        super().__init__()
        hidden = config.text.hidden_size
        self.patch = nn.Linear(config.vision_width, 3)  # score, offset u, offset v
        self.from_proprio = nn.Linear(hidden, VECTOR_SIZE)
        self.from_actions = nn.Linear(hidden * config.step_slots, VECTOR_SIZE)

    def forward(self, output: MoxinOutput) -> tuple[Tensor, Tensor, Tensor]:
        """Return patch scores (B, N, patches), offsets (B, N, patches, 2) and scene vectors (2, B,
        6).
        """
        patches = self.patch(output.vision_tokens)
        vectors = torch.stack(
            [
                self.from_proprio(output.proprio_hidden),
                self.from_actions(output.action_hidden.mean(1)),
            ]
        )
        return patches[..., 0], patches[..., 1:], vectors
