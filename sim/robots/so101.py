"""The SO-101 arm from the `so101-nexus` package (MuJoCo Menagerie model, Apache-2.0), with visuals
that render fast.

The stock visual meshes have about 350,000 faces, which dominate the time of a CPU renderer. They
are decimated once and cached; collision geometry is left as it is, so the physics does not change.
"""

import hashlib
import os
import tempfile
from importlib.util import find_spec
from pathlib import Path

import mujoco
import numpy as np

from moxin_vla.core.errors import DependencyError, SimulationError

JOINT_NAMES = (
    "shoulder_pan",
    "shoulder_lift",
    "elbow_flex",
    "wrist_flex",
    "wrist_roll",
    "gripper",
)
HOME_RAD = (
    0.0,
    -1.0,
    0.5,
    1.81,
    0.0487,
    0.42,
)  # folded above the near edge, gripper open and down
WRIST_CAMERA = "wrist_cam"

# vertices of visual meshes snap to this grid; at camera resolution the arm looks the same
_GRID_M = 0.004


def model_path() -> Path:
    """Return the arm's MJCF file inside the installed package."""
    spec = find_spec("so101_nexus")
    if spec is None or spec.origin is None:
        raise DependencyError(
            "The SO-101 model is missing. Install it with: pip install 'moxin_vla[sim]'"
        )
    path = Path(spec.origin).parent / "assets" / "SO101_menagerie" / "so101.xml"
    if not path.is_file():
        raise SimulationError(f"so101-nexus has no MJCF at '{path}'. Expected version 0.10.")
    return path


def arm_spec(stock_visuals: bool = False) -> mujoco.MjSpec:
    """Build an editable MJCF spec of the arm.

    Args:
        stock_visuals: Keep the package's full-resolution visual meshes (slow); for comparison.
    """
    path = model_path()
    spec = mujoco.MjSpec.from_file(str(path))
    spec.meshdir = str(path.parent / "assets")
    if not stock_visuals:
        for mesh in spec.meshes:
            if not _is_collision_mesh(mesh.file):
                mesh.file = str(_decimated(path.parent / "assets" / mesh.file))
    return spec


def _is_collision_mesh(file: str) -> bool:
    return "_part" in file


def _decimated(stl: Path) -> Path:
    """Return a cached STL with few faces, made on first use: vertices snap to a grid."""
    import trimesh

    content = stl.read_bytes()
    key = hashlib.sha256(content + f"grid {_GRID_M}".encode()).hexdigest()[:16]
    cached = _cache_dir() / f"{stl.stem}-{key}.stl"
    if not cached.is_file():
        mesh = trimesh.load(str(stl), force="mesh")
        mesh.vertices = np.round(mesh.vertices / _GRID_M) * _GRID_M
        mesh.merge_vertices(digits_vertex=6)
        mesh.update_faces(mesh.nondegenerate_faces() & mesh.unique_faces())
        _write_atomically(cached, mesh.export(file_type="stl"))
    return cached


def _cache_dir() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    directory = base / "moxin_vla" / "meshes"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _write_atomically(path: Path, content: bytes) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(content)
    Path(file.name).replace(path)
