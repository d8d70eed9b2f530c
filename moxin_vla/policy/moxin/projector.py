"""Maps into the trunk's embedding space: vision features and proprio."""

from torch import Tensor, nn
from torch.nn import functional


class VisionProjector(nn.Module):
    """Vision channels to trunk channels.

    Two fused towers: D_v -> 4 D_v -> D -> D (`fused-gelu-mlp`); one alone: D_v -> D -> D
    (`gelu-mlp`).
    """

    def __init__(self, vision_width: int, hidden_size: int, fused: bool = True) -> None:
        super().__init__()
        middle = 4 * vision_width if fused else hidden_size
        self.fc1 = nn.Linear(vision_width, middle)
        self.fc2 = nn.Linear(middle, hidden_size)
        if fused:
            self.fc3 = nn.Linear(hidden_size, hidden_size)

    def forward(self, features: Tensor) -> Tensor:
        """Map (..., D_v) to (..., D)."""
        x = self.fc2(functional.gelu(self.fc1(features)))
        return self.fc3(functional.gelu(x)) if hasattr(self, "fc3") else x


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
