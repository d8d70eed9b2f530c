"""Package description for pip and for colcon (ament_python)."""

from setuptools import find_packages, setup

setup(
    name="moxin_vla",
    version="0.1.0",
    packages=[*find_packages(include=["moxin_vla", "moxin_vla.*"]), "moxin_sim"],
    package_dir={"moxin_sim": "sim"},
    python_requires=">=3.12",
    entry_points={"console_scripts": ["moxin-vla = moxin_vla.cli.main:main"]},
)
