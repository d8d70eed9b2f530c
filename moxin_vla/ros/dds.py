"""The tuned Fast DDS profile, applied before rclpy starts; what a user has set stays."""

import os

from moxin_vla.core.resources import resource_path

_PROFILE_VARIABLE = "FASTDDS_DEFAULT_PROFILES_FILE"


def dds_environment(domain_id: int | None = None) -> dict[str, str]:
    """Return the environment for processes that use ROS.

    Args:
        domain_id: A domain of its own, on this machine only; None keeps the user's domain and
            reach.
    """
    environment = dict(os.environ)
    profile = str(resource_path("config/dds/fastdds.xml"))
    environment.setdefault(_PROFILE_VARIABLE, profile)
    environment.setdefault("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp")
    if domain_id is not None:
        environment["ROS_DOMAIN_ID"] = str(domain_id)
        environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    return environment


def apply_dds_profile(domain_id: int | None = None) -> None:
    """Put `dds_environment` into this process; call before `rclpy.init`."""
    os.environ.update(dds_environment(domain_id))
