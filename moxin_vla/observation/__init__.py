"""Observation: stamped images and joint states become one `Observation`, or a reason why not."""

from moxin_vla.observation.assembler import ObservationAssembler
from moxin_vla.observation.images import decode_compressed, decode_raw, resized
from moxin_vla.observation.joints import JointLookup

__all__ = ["JointLookup", "ObservationAssembler", "decode_compressed", "decode_raw", "resized"]
