"""moxin_vla as a policy of LeRobot: `--policy.type=moxin_vla`."""

from lerobot_policy_moxin_vla.configuration_moxin_vla import MoxinVlaConfig

__all__ = ["MoxinVlaConfig"]
