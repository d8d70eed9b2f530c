"""Arithmetic against the libraries whose results it must reproduce: peft, timm, diffusers."""

import torch

from moxin_vla.policy.moxin.diffusion import alphas_cumprod, ddim_step, timesteps
from moxin_vla.policy.moxin.timm_towers import resample_positions


def test_peft_merges_the_same():
    """The merge of the library that wrote the adapters, on one layer."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    layer = torch.nn.Sequential(torch.nn.Linear(6, 4, bias=False))
    before = layer[0].weight.detach().clone()
    wrapped = get_peft_model(layer, LoraConfig(r=2, lora_alpha=3, target_modules=["0"]))
    a = wrapped.base_model.model[0].lora_A["default"].weight.data.normal_()
    b = wrapped.base_model.model[0].lora_B["default"].weight.data.normal_()
    merged = wrapped.merge_and_unload()[0].weight
    torch.testing.assert_close(merged, before + 1.5 * b @ a)


def test_positions_are_resampled_as_timm_does():
    from timm.layers import resample_abs_pos_embed

    torch.manual_seed(0)
    positions = torch.randn(1, 49, 8)
    expected = resample_abs_pos_embed(positions, new_size=[4, 4], num_prefix_tokens=0)
    torch.testing.assert_close(resample_positions(positions, 4, 0), expected)
    positions = torch.randn(1, 50, 8)
    expected = resample_abs_pos_embed(positions, new_size=[4, 4], num_prefix_tokens=1)
    torch.testing.assert_close(resample_positions(positions, 4, 1), expected)


def test_denoising_is_diffusers_ddim():
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(num_train_timesteps=50, beta_schedule="squaredcos_cap_v2")
    scheduler.set_timesteps(50)
    signal = alphas_cumprod(50)
    torch.testing.assert_close(signal, scheduler.alphas_cumprod, rtol=1e-5, atol=1e-8)
    assert timesteps(50, 50) == scheduler.timesteps.tolist()
    torch.manual_seed(0)
    ours = theirs = torch.randn(1, 3, 6)
    for step in timesteps(50, 50):
        noise = torch.tanh(ours * 0.7 + step / 50)
        ours = ddim_step(noise, step, ours, signal, 50)
        theirs = scheduler.step(noise, step, theirs).prev_sample
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_fewer_steps_than_in_training_are_spaced_as_in_diffusers():
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(num_train_timesteps=50, beta_schedule="squaredcos_cap_v2")
    scheduler.set_timesteps(10)
    assert timesteps(50, 10) == scheduler.timesteps.tolist()
    sample, noise = torch.full((1, 2, 2), 0.3), torch.full((1, 2, 2), -0.2)
    expected = scheduler.step(noise, 20, sample).prev_sample
    found = ddim_step(noise, 20, sample, alphas_cumprod(50), 10)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
