"""Does attention look the way the config says? Asked of the model itself, not of its code."""

import torch

from moxin_vla.policy.moxin.checkpoint import Checkpoint
from moxin_vla.policy.self_test import Check

_INSTRUCTION = "pick up the red cube"


@torch.inference_mode()
def attention_probe(checkpoint: Checkpoint) -> Check:
    """Change the last action slot and see whether the first hidden state of the actions moves.

    With bidirectional attention it must, with causal attention it must not. Autoregressive models
    have no slots; their cache makes them causal, and the check says so.
    """
    model, config = checkpoint.model, checkpoint.config
    name = f"attention is {config.attention}"
    if config.decoding == "autoregressive":
        return Check(name, True, "decoded token by token")
    weight = model.language_model.model.embed_tokens.weight
    side, channels = config.image_size, 3 * len(config.towers) * config.num_images
    pixels = torch.zeros(1, channels, side, side, dtype=weight.dtype, device=weight.device)
    ids = torch.tensor([checkpoint.tokenizer.ids(_INSTRUCTION)], device=weight.device)
    proprio = torch.zeros(1, config.proprio_dim, device=weight.device)
    context = model.embed(pixels, ids, None, proprio if config.proprio_dim else None)
    slots = model.slots(context, None)
    changed = slots.clone()
    changed[:, -1] += 1.0
    first = [
        model.decode(context, s).action_hidden.unflatten(-1, (config.step_slots, -1))[:, 0, 0]
        for s in (slots, changed)
    ]
    moved = float((first[0] - first[1]).abs().max())
    right = (moved > 0) == (config.attention == "bidirectional")
    return Check(name, right, f"the first state moved by {moved:.3g} when the last slot changed")
