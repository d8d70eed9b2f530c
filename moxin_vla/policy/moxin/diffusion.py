"""Deterministic denoising of a chunk (DDIM, arXiv 2010.02502) with the released settings.

The schedule is the squared cosine of arXiv 2102.09672; the predicted clean chunk is clipped to
[-1, 1] at every step; the noise is what the network predicts.
"""

import math

import torch
from torch import Tensor

_LARGEST_BETA = 0.999
_OFFSET = 0.008


def alphas_cumprod(train_steps: int) -> Tensor:
    """Return the share of signal left after each of `train_steps` steps of noise, float32."""

    def share(t: float) -> float:
        return math.cos((t + _OFFSET) / (1 + _OFFSET) * math.pi / 2) ** 2

    betas = [
        min(1 - share((i + 1) / train_steps) / share(i / train_steps), _LARGEST_BETA)
        for i in range(train_steps)
    ]
    return (1 - torch.tensor(betas, dtype=torch.float32)).cumprod(0)


def timesteps(train_steps: int, steps: int) -> list[int]:
    """Return the timesteps of an inference, noisiest first, evenly spaced from 0 up."""
    return [i * (train_steps // steps) for i in range(steps)][::-1]


def ddim_step(noise: Tensor, timestep: int, sample: Tensor, signal: Tensor, steps: int) -> Tensor:
    """Take one step from `timestep` towards the clean chunk.

    Args:
        noise: Predicted noise, shape (B, H, D).
        timestep: Where `sample` is.
        sample: Noisy chunk, shape (B, H, D).
        signal: What `alphas_cumprod` returned.
        steps: Steps of the whole inference.
    """
    before = timestep - len(signal) // steps
    now, then = signal[timestep], signal[before] if before >= 0 else signal.new_ones(())
    clean = ((sample - (1 - now).sqrt() * noise) / now.sqrt()).clamp(-1, 1)
    return then.sqrt() * clean + (1 - then).sqrt() * noise


def timestep_token(timestep: int, width: int, like: Tensor) -> Tensor:
    """Embed a timestep as [sin | cos] of geometric frequencies, shape (B, width)."""
    half = width // 2
    exponents = torch.arange(half, device=like.device) * (-math.log(10000) / (half - 1))
    angles = timestep * exponents.exp()
    return torch.cat([angles.sin(), angles.cos()]).to(like.dtype).expand(like.shape[0], -1)
