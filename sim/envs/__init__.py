"""Gymnasium environments over the tabletop; `import moxin_sim.envs` registers them."""

from gymnasium.envs.registration import register, registry

from moxin_sim.envs.tabletop_env import TabletopEnv
from moxin_sim.tasks import FAMILIES

__all__ = ["TabletopEnv"]

for _family in FAMILIES:
    _id = f"moxin_sim/SO101-{_family.capitalize()}-v0"
    if _id not in registry:
        register(
            id=_id,
            entry_point="moxin_sim.envs.tabletop_env:TabletopEnv",
            kwargs={"family": _family},
        )
