"""The Gymnasium environments keep Gymnasium's contract."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import moxin_sim.envs  # noqa: F401  (registers)
from moxin_sim import Expert
from moxin_vla.core.errors import SimulationError


@pytest.mark.parametrize("family", ["Touch", "Pick", "Place"])
def test_passes_gymnasiums_checker(family):
    env = gymnasium.make(f"moxin_sim/SO101-{family}-v0", disable_env_checker=True).unwrapped
    check_env(env, skip_render_check=True)
    env.close()


def test_the_expert_gets_the_reward():
    env = gymnasium.make("moxin_sim/SO101-Pick-v0").unwrapped
    env.reset(seed=3)
    expert, reward, ended = Expert(env.world), 0.0, False
    while not ended:
        _, reward, terminated, truncated, info = env.step(expert.chunk()[0])
        ended = terminated or truncated
    assert reward == 1.0 and info["is_success"]
    env.close()


def test_an_instruction_can_be_chosen_at_reset():
    env = gymnasium.make("moxin_sim/SO101-Pick-v0").unwrapped
    env.reset(seed=3)
    present = list(env.world.facts().cubes)
    other = next(c for c in present if c != env.world.colour)
    observation, _ = env.reset(seed=3, options={"instruction": f"pick up the {other} cube"})
    assert observation["instruction"] == f"pick up the {other} cube"
    assert env.world.colour == other
    with pytest.raises(SimulationError, match="is no instruction of the family 'pick'"):
        env.reset(seed=3, options={"instruction": "dance"})
    env.close()


def test_render_gives_a_picture():
    env = gymnasium.make("moxin_sim/SO101-Touch-v0", render_mode="rgb_array").unwrapped
    env.reset(seed=0)
    picture = env.render()
    assert picture.shape == (240, 320, 3) and len(np.unique(picture)) > 50
    env.close()
