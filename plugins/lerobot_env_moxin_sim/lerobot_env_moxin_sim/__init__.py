"""moxin_sim as an environment of LeRobot: `--env.type=moxin_sim --env.task=pick`."""

from lerobot_env_moxin_sim.configuration_moxin_sim import MoxinSimEnv

__all__ = ["MoxinSimEnv"]
