"""Package description for pip and for colcon (ament_python)."""

from collections import defaultdict
from pathlib import Path

from setuptools import find_packages, setup

NAME = "moxin_vla"
HERE = Path(__file__).parent
SHIPPED = ("launch", "config", "checkpoints")  # go to share/moxin_vla in the same folders

EXTRAS = {
    "sim": ["mujoco>=3.9", "so101-nexus>=0.10", "trimesh", "gymnasium>=1.0", "mink>=1.3"],
    "policy": ["torch>=2.7", "safetensors", "tokenizers"],
    "ros": [
        "ros-rclpy[fastrtps]",
        "ros-sensor-msgs",
        "ros-trajectory-msgs",
        "ros-std-msgs",
        "ros-std-srvs",
        "ros-diagnostic-msgs",
        "ros-rosgraph-msgs",
        "ros-lifecycle-msgs",
    ],
    "data": ["lerobot[dataset]>=0.6.1,<0.7", "pillow", "rosbags>=0.11"],
    "train": ["peft>=0.17", "accelerate>=1.10"],
    "dev": [
        "transformers",
        "timm",
        "diffusers",
        "grpcio",  # of lerobot's asynchronous inference, which a benchmark compares with
        "protobuf",
        "pytest",
        "pytest-timeout",
        "hypothesis",
        "ruff",
        "pyright",
        "pre-commit",
        "colcon-core",
        "colcon-ros",
        "colcon-python-setup-py",
        "setuptools<80",
    ],
}


def shipped_files() -> list[tuple[str, list[str]]]:
    """Return data_files: the ament marker, package.xml, and the shipped folders."""
    files: dict[str, list[str]] = defaultdict(list)
    files["share/ament_index/resource_index/packages"].append(f"resource/{NAME}")
    files[f"share/{NAME}"].append("package.xml")
    for folder in SHIPPED:
        for path in sorted((HERE / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                relative = path.relative_to(HERE)
                files[f"share/{NAME}/{relative.parent.as_posix()}"].append(relative.as_posix())
    return sorted(files.items())


def packages() -> tuple[list[str], dict[str, str]]:
    """Return package names and folders; `sim/` is imported as `moxin_sim`."""
    ours = find_packages(include=[NAME, f"{NAME}.*"])
    simulator = ["moxin_sim", *(f"moxin_sim.{name}" for name in find_packages("sim"))]
    return [*ours, *simulator], {"moxin_sim": "sim"}


names, folders = packages()

setup(
    name=NAME,
    version="0.1.0",
    description="Robot control stack for vision-language-action policies over ROS 2",
    license="Apache-2.0",
    maintainer="moxin_vla maintainers",
    maintainer_email="maintainers@moxin-vla.example",
    packages=names,
    package_dir=folders,
    package_data={"moxin_vla.evaluation": ["templates/*.j2"]},
    data_files=shipped_files(),
    python_requires=">=3.12",
    install_requires=["numpy>=2", "pyyaml", "opencv-python-headless", "rich", "jinja2", "ruckig"],
    extras_require=EXTRAS,
    zip_safe=True,
    entry_points={
        "console_scripts": [
            "moxin-vla = moxin_vla.cli.main:main",
            "sim_node = moxin_vla.nodes.sim_node:main",
            "policy_node = moxin_vla.nodes.policy_node:main",
            "control_node = moxin_vla.nodes.control_node:main",
            "vlm_node = moxin_vla.nodes.vlm_node:main",
            "teleop_node = moxin_vla.nodes.teleop_node:main",
            "recorder_node = moxin_vla.nodes.recorder_node:main",
        ]
    },
)
