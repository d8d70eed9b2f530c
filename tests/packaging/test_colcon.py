"""`colcon build` makes an install space whose entry points start."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("moxin_vla", "sim", "launch", "config", "checkpoints", "resource")


def run(command, cwd, **environment):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=os.environ | {"PATH": path} | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    workspace = tmp_path_factory.mktemp("colcon")
    source = workspace / "src" / "moxin_vla"
    source.mkdir(parents=True)
    for folder in COPIED:
        shutil.copytree(
            ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("setup.py", "setup.cfg", "package.xml", "pyproject.toml"):
        shutil.copy(ROOT / name, source / name)
    run([Path(sys.executable).parent / "colcon", "build"], workspace)
    return workspace


def installed(workspace, command):
    """Run a shell command in the sourced install space, outside the source tree."""
    return run(["sh", "-c", f". {workspace}/install/local_setup.sh && {command}"], workspace)


def test_the_ament_index_knows_the_package(workspace):
    share = workspace / "install" / "moxin_vla" / "share"
    assert (share / "ament_index/resource_index/packages/moxin_vla").is_file()
    assert (share / "moxin_vla/package.xml").is_file()
    assert list((share / "moxin_vla/launch").glob("*.launch.py"))


def test_the_command_starts_from_the_install_space(workspace):
    executables = workspace / "install/moxin_vla/lib/moxin_vla"
    assert "moxin-vla 0.1.0" in installed(workspace, f"{executables}/moxin-vla --version")
    assert {p.name for p in executables.iterdir()} >= {"sim_node", "policy_node", "control_node"}


def test_the_installed_package_is_used_and_finds_its_files(workspace):
    code = (
        "import moxin_vla, moxin_sim; from moxin_vla.core.resources import resource_path; "
        "print(moxin_vla.__file__); print(moxin_sim.__file__); "
        "print(resource_path('config/embodiments/so101_sim.yaml')); "
        "print(resource_path('checkpoints/moxin-nano-so101'))"
    )
    lines = installed(workspace, f'{sys.executable} -c "{code}"').splitlines()
    assert len(lines) == 4
    assert all(line.startswith(str(workspace / "install")) for line in lines), lines
