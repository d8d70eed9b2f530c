"""Observation: stamped images and joint states become one `Observation`, or a reason why not."""

from moxin_vla.observation.assembler import ObservationAssembler

__all__ = ["ObservationAssembler"]
