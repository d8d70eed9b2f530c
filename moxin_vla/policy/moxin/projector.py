"""Maps into the trunk's embedding space: vision features and proprio."""

from torch import Tensor, nn
from torch.nn import functional


class VisionProjector(nn.Module):
    """Fused vision channels to trunk channels (`fused-gelu-mlp`): D_v -> 4 D_v -> D -> D."""

    def __init__(self, vision_width: int, hidden_size: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(vision_width, 4 * vision_width)
        self.fc2 = nn.Linear(4 * vision_width, hidden_size)
        self.fc3 = nn.Linear(hidden_size, hidden_size)

    def forward(self, features: Tensor) -> Tensor:
        """Map (..., D_v) to (..., D)."""
        return self.fc3(functional.gelu(self.fc2(functional.gelu(self.fc1(features)))))


class ProprioProjector(nn.Module):
    """Normalised proprio to one trunk token."""

    def __init__(self, proprio_dim: int, hidden_size: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(proprio_dim, hidden_size)
        self.fc2 = nn.Linear(hidden_size, hidden_size)

    def forward(self, proprio: Tensor) -> Tensor:
        """Map (..., D_proprio) to (..., D)."""
        return self.fc2(functional.gelu(self.fc1(proprio)))


class ActionPrefixProjector(ProprioProjector):
    """Committed, normalised actions to action slots.

    The same map as the one for proprio. Its output is added to the slot; it starts at zero, so an
    unfitted prefix changes nothing.
    """

    def __init__(self, values_per_slot: int, hidden_size: int) -> None:
        super().__init__(values_per_slot, hidden_size)
        nn.init.zeros_(self.fc2.weight)
        nn.init.zeros_(self.fc2.bias)
