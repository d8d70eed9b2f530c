"""Action tokens, the autoregressive decoder and the diffusion schedule, against golden numbers."""

import layouts
import numpy as np
import pytest
import torch

from moxin_vla.policy.moxin.action_tokens import ActionTokens
from moxin_vla.policy.moxin.decoding import predict
from moxin_vla.policy.moxin.diffusion import (
    timestep_token,
)


def _full_vocabulary():
    text = layouts.replace(layouts.tiny_config().text, vocab_size=32064)
    return layouts.tiny_config(text=text)


def test_action_token_ids_are_the_released_ones():
    tokens = ActionTokens(_full_vocabulary())
    assert tokens.ids([-1.0, 0.0, 1.0, 5.0]).tolist() == [31999, 31872, 31744, 31744]
    decoded = tokens.actions(torch.tensor([31999, 31744, 31745, 2, 32063]))
    width = 2 / 255
    expected = [-1 + width / 2, 1 - width / 2, 1 - width / 2, 1 - width / 2, -1 + width / 2]
    np.testing.assert_allclose(decoded, expected, atol=1e-12)


def test_every_bin_survives_a_round_trip():
    tokens = ActionTokens(_full_vocabulary())
    centres = (np.linspace(-1, 1, 256)[:-1] + np.linspace(-1, 1, 256)[1:]) / 2
    np.testing.assert_allclose(tokens.actions(torch.tensor(tokens.ids(centres))), centres)


def test_autoregressive_decoding_is_a_greedy_loop_over_the_whole_sequence():
    config = layouts.tiny_config(
        head="discrete",
        decoding="autoregressive",
        attention="causal",
        proprio_names=(),
        slots_per_step=None,
        chunk=1,
    )
    model = layouts.random_model(config)
    torch.manual_seed(1)
    pixels, ids = torch.randn(1, 12, 28, 28), torch.tensor([[1, 9, 8, 7]])
    found = predict(model, pixels, ids, None)
    chosen = []
    with torch.inference_mode():
        for _ in range(6):
            given = torch.cat([ids, torch.tensor([chosen], dtype=torch.long)], dim=1)
            context = model.embed(pixels, given, None, None)
            sequence = model._sequence(context, None)
            trunk = model.language_model.model
            hidden = trunk(sequence, torch.arange(sequence.shape[1]), causal=True)
            chosen.append(int(model.language_model.lm_head(hidden[0, -1]).argmax()))
    expected = ActionTokens(config).actions(torch.tensor([chosen]))
    assert torch.equal(found, expected[:, None])


def test_timestep_token_by_hand():
    token = timestep_token(3, 6, torch.zeros(2, 1))
    frequencies = [1.0, 0.01, 0.0001]
    expected = [*np.sin(3 * np.array(frequencies)), *np.cos(3 * np.array(frequencies))]
    np.testing.assert_allclose(token, [expected] * 2, atol=1e-6)


@pytest.mark.parametrize("attention", ["bidirectional", "causal"])
def test_predicting_computes_the_same_actions_as_training(attention):
    config = layouts.tiny_config(attention=attention)
    model = layouts.random_model(config)
    torch.manual_seed(2)
    inputs = torch.randn(1, 12, 28, 28), torch.tensor([[1, 9, 8, 7]])
    proprio = torch.randn(1, 6)
    with torch.inference_mode():
        full = model(*inputs, None, proprio).actions
    torch.testing.assert_close(predict(model, *inputs, proprio), full, rtol=1e-5, atol=1e-6)
