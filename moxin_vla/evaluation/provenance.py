"""What else determines a result: versions, commit, machine."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import moxin_vla

_PACKAGES = ("torch", "mujoco", "numpy", "so101-nexus", "gymnasium", "lerobot", "ros-rclpy")


def provenance() -> dict[str, str]:
    """Return versions and machine as plain text; a part that can't be found is left out."""
    found = {"moxin_vla": moxin_vla.__version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    if commit := _commit():
        found["commit"] = commit
    found["machine"] = f"{platform.machine()}, {os.cpu_count()} cores, {_cpu()}"
    found["rendering"] = os.environ.get("MUJOCO_GL", "default")
    return found


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return platform.processor()
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0].partition(":")[2].strip() if names else platform.processor()
