"""Joiners: how a new action chunk joins the plan that is being played."""

from collections.abc import Sequence

from moxin_vla.core.errors import MoxinVlaError, listed
from moxin_vla.core.protocols import Joiner
from moxin_vla.runtime.joiners.base import BaseJoiner
from moxin_vla.runtime.joiners.decay_blend import DecayBlend
from moxin_vla.runtime.joiners.gated import Gated
from moxin_vla.runtime.joiners.naive import Naive
from moxin_vla.runtime.joiners.prefix import Prefix
from moxin_vla.runtime.joiners.state_roll import StateRoll
from moxin_vla.runtime.joiners.synchronous import Synchronous
from moxin_vla.runtime.joiners.temporal_ensemble import TemporalEnsemble

__all__ = ["DEFAULT_JOINER", "JOINERS", "make_joiner"]

DEFAULT_JOINER = Naive.name
_KINDS = (Synchronous, Naive, DecayBlend, TemporalEnsemble, Gated, StateRoll, Prefix)
_BY_NAME: dict[str, type[BaseJoiner]] = {kind.name: kind for kind in _KINDS}
JOINERS = tuple(_BY_NAME)


def make_joiner(name: str, execution_horizon: int, unblended: Sequence[int]) -> Joiner:
    """Build a joiner by name; one for each side, as some remember chunks.

    Args:
        name: One of `JOINERS`.
        execution_horizon: Steps s played from each chunk.
        unblended: Dims that are never averaged, such as the gripper's.

    Raises:
        MoxinVlaError: The name is unknown.
    """
    if name not in _BY_NAME:
        raise MoxinVlaError(f"Unknown joiner '{name}'. Choose from: {listed(JOINERS)}")
    kind = _BY_NAME[name]
    if issubclass(kind, Synchronous):
        return kind(execution_horizon, unblended)
    return kind(unblended)
