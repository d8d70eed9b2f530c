import os
from pathlib import Path

import pytest

from moxin_vla.cli.doctor import check_dds
from moxin_vla.core.resources import resource_path
from moxin_vla.ros.dds import dds_environment

ATTEMPTS = 3
PROFILE, RANGE = "FASTDDS_DEFAULT_PROFILES_FILE", "ROS_AUTOMATIC_DISCOVERY_RANGE"


def test_every_vga_image_arrives_between_processes_best_effort() -> None:
    """With the default profile a few percent arrive; a busy machine may cost single images."""
    seen = []
    for _ in range(ATTEMPTS):
        seen.append(check_dds()[0].seen)
        if seen[-1].startswith("100 of 100 "):
            return
    pytest.fail(f"images were lost in every attempt: {seen}")


@pytest.fixture(scope="module")
def system(start_system):
    with start_system("scripted:hold", "realtime", teleop="autopilot") as running:
        yield running.system


@pytest.mark.parametrize("node", ["control_node", "teleop_node"])
def test_what_moves_the_robot_shares_no_memory_with_others(system, node: str) -> None:
    """What is stopped or killed with a lock in shared memory stalls all that share it."""
    assert not shared_memory_of(system.pid(node))
    assert not shared_memory_of(os.getpid())


@pytest.mark.parametrize("node", ["sim_node", "policy_node"])
def test_what_deals_with_images_shares_memory(system, node: str) -> None:
    assert shared_memory_of(system.pid(node))


def shared_memory_of(pid: int) -> list[str]:
    maps = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8").splitlines()
    return [line for line in maps if "/dev/shm/fastdds" in line]


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of a user who has set nothing."""
    ours = {PROFILE, RANGE, "ROS_LOCALHOST_ONLY", "ROS_STATIC_PEERS"}
    environment = {n: v for n, v in os.environ.items() if n not in ours}
    monkeypatch.setattr(os, "environ", environment)
    return environment


LOCAL = {RANGE: "LOCALHOST"}
FORMERLY_LOCAL = {"ROS_LOCALHOST_ONLY": "1"}


@pytest.mark.parametrize(
    ("user", "domain", "images", "profile", "reach"),
    [
        ({}, None, True, "images.xml", None),
        ({}, None, False, "commands.xml", None),
        ({}, 42, True, "images.xml", "LOCALHOST"),
        ({}, 42, False, "commands_local.xml", "SYSTEM_DEFAULT"),
        (LOCAL, None, True, "images.xml", "LOCALHOST"),
        (LOCAL, None, False, "commands_local.xml", "SYSTEM_DEFAULT"),
        (FORMERLY_LOCAL, None, False, "commands_local.xml", "SYSTEM_DEFAULT"),
        (LOCAL | {"ROS_STATIC_PEERS": "10.0.0.1"}, None, False, "commands.xml", "LOCALHOST"),
        ({RANGE: "OFF"}, None, False, "commands.xml", "OFF"),
    ],
)
def test_each_process_has_its_own_profile_whatever_its_parent_had(
    plain, user: dict, domain: int | None, images: bool, profile: str, reach: str | None
) -> None:
    plain.update(user)
    for images_of_parent in (images, False, True):
        parent = dds_environment(domain, images=images_of_parent)
        plain.clear()
        plain.update(parent)
        made = dds_environment(domain, images=images)
        assert made[PROFILE] == str(resource_path("config/dds") / profile)
        assert made.get(RANGE) == reach
        assert "ROS_LOCALHOST_ONLY" not in made
        assert made.get("ROS_DOMAIN_ID") == (str(domain) if domain else plain["ROS_DOMAIN_ID"])


def test_a_profile_of_the_users_own_stays(plain) -> None:
    plain[PROFILE] = "/mine.xml"
    assert dds_environment()[PROFILE] == "/mine.xml"
    assert dds_environment(42)[PROFILE] == "/mine.xml"
    assert dds_environment(42)[RANGE] == "LOCALHOST"
