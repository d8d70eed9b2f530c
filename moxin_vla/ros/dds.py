"""The tuned Fast DDS profiles, applied before rclpy starts; what a user has set stays.

Processes that deal with images share memory. All others do not: they then have no lock in common
with a process that hangs or is killed, so that control_node goes on whatever becomes of the rest.
"""

import os
from pathlib import Path

from moxin_vla.core.resources import resource_path

_PROFILE = "FASTDDS_DEFAULT_PROFILES_FILE"
_RANGE, _FORMER_RANGE = "ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_LOCALHOST_ONLY"
_PEERS = "ROS_STATIC_PEERS"


def dds_environment(domain_id: int | None = None, *, images: bool = False) -> dict[str, str]:
    """Return the environment for processes that use ROS.

    Args:
        domain_id: A domain of its own, on this machine only; None keeps the user's domain and
            reach.
        images: Whether the process publishes or hears images.
    """
    environment = dict(os.environ)
    folder = resource_path("config/dds")
    chosen = Path(environment.get(_PROFILE, folder / "images.xml"))
    ours = chosen.parent == folder  # if set, then for the process before this one
    local = (
        domain_id is not None
        or environment.get(_RANGE) == "LOCALHOST"
        or environment.get(_FORMER_RANGE) == "1"
        or chosen == folder / "commands_local.xml"
    )
    if domain_id is not None:
        environment["ROS_DOMAIN_ID"] = str(domain_id)
    if local:
        environment.pop(_FORMER_RANGE, None)
        environment[_RANGE] = "LOCALHOST"
    if ours and images:
        environment[_PROFILE] = str(folder / "images.xml")
    elif ours and local and not environment.get(_PEERS):  # only the range LOCALHOST takes these
        environment[_PROFILE] = str(folder / "commands_local.xml")
        environment[_RANGE] = "SYSTEM_DEFAULT"  # the profile decides
    elif ours:
        environment[_PROFILE] = str(folder / "commands.xml")
    environment.setdefault("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp")
    return environment


def apply_dds_profile(domain_id: int | None = None, *, images: bool = False) -> None:
    """Put `dds_environment` into this process, before `rclpy.init`: only the first call counts."""
    environment = dds_environment(domain_id, images=images)
    os.environ.clear()
    os.environ.update(environment)
