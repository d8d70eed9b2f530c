"""`moxin-vla doctor`: what is installed, whether rendering, ROS, DDS and the checkpoint work, and
how to mend what does not.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version

_EXTRAS = {
    "sim": ("mujoco", "so101-nexus", "gymnasium", "trimesh"),
    "policy": ("torch", "safetensors", "tokenizers"),
    "ros": (
        "ros-rclpy",
        "ros-sensor-msgs",
        "ros-trajectory-msgs",
        "ros-std-srvs",
        "ros-diagnostic-msgs",
    ),
    "data": ("lerobot", "datasets", "av"),
}
_IMAGES, _TIMEOUT_S, _FREE_GB = 100, 60, 2


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, `ok`, `warn` or `fail`, what was seen, and how to mend it."""

    name: str
    level: str
    seen: str
    remedy: str = ""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Register the command."""
    parser = subparsers.add_parser("doctor", help="check this machine", description=__doc__)
    parser.add_argument("--json", action="store_true", help="machine-readable")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Check everything; returns 1 if something failed."""
    findings = [finding for check in CHECKS for finding in guarded(check)]
    if args.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        _show(findings)
    return int(any(finding.level == "fail" for finding in findings))


def guarded(check: Callable[[], list[Finding]]) -> list[Finding]:
    """Run a check; what it raises becomes its finding."""
    try:
        return check()
    except Exception as error:
        name = check.__name__.removeprefix("check_").replace("_", " ")
        return [Finding(name, "fail", f"{type(error).__name__}: {error}", "see the message")]


def _show(findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    colours = {"ok": "green", "warn": "yellow", "fail": "red"}
    table = Table(title="moxin-vla doctor", title_justify="left")
    for column in ("check", "", "seen", "how to mend it"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        level = f"[{colours[finding.level]}]{finding.level}[/]"
        table.add_row(escape(finding.name), level, escape(finding.seen), escape(finding.remedy))
    Console().print(table)


def check_python() -> list[Finding]:
    """Python's version."""
    good = sys.version_info >= (3, 12)
    return [
        Finding(
            "python",
            "ok" if good else "fail",
            platform.python_version(),
            "" if good else "use Python 3.12",
        )
    ]


def check_packages() -> list[Finding]:
    """The extras, each with its packages."""
    return [_extra(extra, packages) for extra, packages in _EXTRAS.items()]


def _extra(extra: str, packages: tuple[str, ...]) -> Finding:
    found, missing = [], []
    for package in packages:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            missing.append(package)
    if missing:
        return Finding(
            f"extra [{extra}]",
            "fail",
            f"missing: {', '.join(missing)}",
            f"pip install 'moxin_vla[{extra}]'",
        )
    return Finding(f"extra [{extra}]", "ok", ", ".join(found))


def check_disk() -> list[Finding]:
    """Free space here."""
    free = shutil.disk_usage(".").free / 1e9
    level = "ok" if free > _FREE_GB else "warn"
    return [
        Finding(
            "disk",
            level,
            f"{free:.0f} GB free",
            "" if level == "ok" else "free some space before recording",
        )
    ]


def check_shared_memory() -> list[Finding]:
    """What killed processes of ROS have left; it is removed here."""
    from moxin_vla.ros.shared_memory import remove_abandoned

    freed = remove_abandoned() / 1e6
    seen = f"{freed:.0f} MB of killed ROS processes, removed" if freed else "nothing left behind"
    return [Finding("shared memory", "ok", seen)]


def check_rendering() -> list[Finding]:
    """Frames per second of both cameras, in a process of its own."""
    code = (
        "import time; from moxin_sim import Tabletop, sample_episode; "
        "from moxin_vla.core.embodiment import load_embodiment; "
        "from moxin_vla.core.resources import resource_path; "
        "w = Tabletop(load_embodiment(resource_path('config/embodiments/so101_sim.yaml'))); "
        "w.reset(sample_episode('pick', 0)); w.images(); t = time.time(); "
        "[w.images() for _ in range(20)]; "
        "print('RATE', 40 / (time.time() - t))"
    )
    done = _python(code)
    if "RATE" in done.stdout:
        rate = float(done.stdout.split("RATE")[1].split()[0])
        backend = os.environ.get("MUJOCO_GL", "egl" if sys.platform == "linux" else "default")
        return [Finding("rendering", "ok", f"{rate:.0f} images/s, MUJOCO_GL={backend}")]
    remedy = "apt-get install libegl1 libgl1 libgl1-mesa-dri, or MUJOCO_GL=osmesa with libosmesa6"
    return [Finding("rendering", "fail", _last_line(done.stderr), remedy)]


def check_checkpoint() -> list[Finding]:
    """The shipped policy loads, fits the robot and plans."""
    from moxin_vla.cli.demo import CHECKPOINT
    from moxin_vla.core.embodiment import load_embodiment
    from moxin_vla.core.resources import resource_path
    from moxin_vla.policy.loading import load_policy

    embodiment = load_embodiment(resource_path("config/embodiments/so101_sim.yaml"))
    policy = load_policy(str(resource_path(CHECKPOINT)), embodiment)
    spec = policy.spec
    seen = (
        f"{spec.name} {spec.fingerprint}, {spec.horizon} steps at {spec.control_rate_hz:g} Hz, "
        f"cameras {', '.join(spec.cameras)}"
    )
    return [Finding("checkpoint", "ok", seen)]


def check_dds() -> list[Finding]:
    """Images from one process to another, best effort, with the shipped profile."""
    from moxin_vla.ros.dds import dds_environment

    environment = dds_environment(domain_id=100 + os.getpid() % 100, images=True)
    command = [sys.executable, "-m", "moxin_vla.ros.dds_probe"]
    with subprocess.Popen(
        [*command, "send"], env=environment, stderr=subprocess.PIPE, text=True
    ) as sender:
        try:
            done = subprocess.run(
                [*command, "receive"],
                env=environment,
                capture_output=True,
                text=True,
                timeout=_TIMEOUT_S,
            )
        finally:
            sender.kill()
    if "RECEIVED" not in done.stdout:
        return [
            Finding("ros and dds", "fail", _last_line(done.stderr), "pip install 'moxin_vla[ros]'")
        ]
    received, sent = (int(n) for n in done.stdout.split("RECEIVED")[1].split()[:2])
    level = "ok" if received >= 0.98 * sent else "warn"
    remedy = (
        ""
        if level == "ok"
        else "is the machine busy, or FASTDDS_DEFAULT_PROFILES_FILE set to another profile?"
    )
    return [
        Finding("ros and dds", level, f"{received} of {sent} images of 640x480 arrived", remedy)
    ]


def _python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=_TIMEOUT_S
    )


def _last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else f"no answer at {time.strftime('%H:%M:%S')}"


CHECKS: tuple[Callable[[], list[Finding]], ...] = (
    check_python,
    check_packages,
    check_disk,
    check_shared_memory,
    check_rendering,
    check_dds,
    check_checkpoint,
)
