"""From an observation's tensors to a normalised chunk, whatever head the model has."""

import torch
from torch import Tensor

from moxin_vla.policy.moxin.action_tokens import ActionTokens
from moxin_vla.policy.moxin.cache import KeyValueCache
from moxin_vla.policy.moxin.diffusion import alphas_cumprod, ddim_step, timestep_token, timesteps
from moxin_vla.policy.moxin.generation import greedy
from moxin_vla.policy.moxin.model import ActionPrefix, Context, MoxinVLA

_NOISE_SEED = 0


@torch.inference_mode()
def predict(
    model: MoxinVLA,
    pixel_values: Tensor,
    input_ids: Tensor,
    proprio: Tensor | None,
    prefix: ActionPrefix | None = None,
) -> Tensor:
    """Return a normalised chunk, shape (B, H, action_dim); deterministic.

    Args:
        model: In evaluation mode.
        pixel_values: Normalised pixels, shape (B, N * towers * 3, h, w).
        input_ids: Prompt ids, none padded, shape (B, L).
        proprio: Normalised proprio, shape (B, proprio_dim); None for models without.
        prefix: Committed actions; only for models with `action_prefix`.
    """
    context = model.embed(pixel_values, input_ids, None, proprio)
    if model.config.head == "diffusion":
        return _denoised(model, context)
    if model.config.decoding == "autoregressive":
        return _one_by_one(model, context)
    output = model.decode(context, model.slots(context, prefix))
    if output.actions is not None:
        return output.actions
    hidden = output.action_hidden.unflatten(-1, (model.config.step_slots, -1))
    ids = model.language_model.lm_head(hidden).argmax(-1)  # (B, H, step_slots)
    return ActionTokens(model.config).actions(ids)


def _denoised(model: MoxinVLA, context: Context) -> Tensor:
    """Run the whole trunk once per denoising step, as the released code does."""
    config, batch = model.config, context.text.shape[0]
    generator = torch.Generator().manual_seed(_NOISE_SEED)
    shape = (batch, config.chunk, config.action_dim)
    chunk = torch.randn(shape, generator=generator).to(context.text)
    signal = alphas_cumprod(config.diffusion_steps).to(context.text.device)
    for timestep in timesteps(config.diffusion_steps, config.diffusion_steps):
        slots = model.noisy_action_projector(chunk.flatten(1)[..., None].to(context.text.dtype))
        token = timestep_token(timestep, config.text.hidden_size, context.text)
        noise = model.decode(context, slots, token).actions
        assert noise is not None
        chunk = ddim_step(noise, timestep, chunk, signal, config.diffusion_steps)
    return chunk


def _one_by_one(model: MoxinVLA, context: Context) -> Tensor:
    """Decode the action tokens greedily, each from the ones before it."""
    config = model.config
    tokens = config.chunk * config.action_dim
    length = context.text.shape[1] + context.projected.shape[1] + 1
    cache = KeyValueCache(config.text, context.text.shape[0], length + tokens, context.text)
    hidden = model.prefill(context, cache)
    ids = greedy(model.language_model, hidden, cache, tokens)  # (B, tokens)
    return ActionTokens(config).actions(ids).unflatten(1, (config.chunk, config.action_dim))
