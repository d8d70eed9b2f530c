"""Action heads: an MLP-ResNet over one step's action hidden states (arXiv 2502.19645)."""

from torch import Tensor, nn
from torch.nn import functional


class ResnetBlock(nn.Module):
    """x + relu(linear(norm(x)))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ffn = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., D) to (..., D)."""
        return x + self.ffn(x)


class MlpResnet(nn.Module):
    """Norm, linear, two residual blocks, norm, linear."""

    def __init__(self, input_dim: int, hidden: int, output_dim: int, blocks: int = 2) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(input_dim)
        self.fc1 = nn.Linear(input_dim, hidden)
        self.mlp_resnet_blocks = nn.ModuleList(ResnetBlock(hidden) for _ in range(blocks))
        self.layer_norm2 = nn.LayerNorm(hidden)
        self.fc2 = nn.Linear(hidden, output_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., input_dim) to (..., output_dim)."""
        x = functional.relu(self.fc1(self.layer_norm1(x)))
        for block in self.mlp_resnet_blocks:
            x = block(x)
        return self.fc2(self.layer_norm2(x))


class L1ActionHead(nn.Module):
    """Regresses normalised actions; no squashing, no clipping."""

    def __init__(self, hidden_size: int, step_slots: int, action_dim: int) -> None:
        super().__init__()
        self.model = MlpResnet(step_slots * hidden_size, hidden_size, action_dim)

    def forward(self, action_hidden: Tensor) -> Tensor:
        """Map (B, H, step_slots * D) to normalised actions (B, H, action_dim)."""
        return self.model(action_hidden)


class NoisePredictor(nn.Module):
    """Holds the network under the released name."""

    def __init__(self, input_dim: int, hidden: int, output_dim: int) -> None:
        super().__init__()
        self.mlp_resnet = MlpResnet(input_dim, hidden, output_dim)


class DiffusionActionHead(nn.Module):
    """Predicts the noise in a noisy, normalised chunk; `diffusion.py` turns it into actions."""

    def __init__(self, hidden_size: int, step_slots: int, action_dim: int) -> None:
        super().__init__()
        self.noise_predictor = NoisePredictor(step_slots * hidden_size, hidden_size, action_dim)

    def forward(self, action_hidden: Tensor) -> Tensor:
        """Map (B, H, step_slots * D) to noise (B, H, action_dim)."""
        return self.noise_predictor.mlp_resnet(action_hidden)
