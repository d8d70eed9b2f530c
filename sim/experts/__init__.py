"""Scripted experts: privileged, near perfect, a pure function of the state, so that they can label
any state a policy reaches.
"""

from moxin_sim.experts.expert import Expert, ExpertPolicy

__all__ = ["Expert", "ExpertPolicy"]
