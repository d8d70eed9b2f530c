"""Nobody imports against ARCHITECTURE.md; heavy packages stay where they belong."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("observation", "policy", "runtime", "safety", "recording", "teleop")
UPPER = ("serving", "evaluation", "ros", "sim")
LEVEL = {"core": 0, **dict.fromkeys(STAGES, 1), "system": 1, **dict.fromkeys(UPPER, 2)} | {
    "nodes": 3,
    "cli": 3,
}
ONLY_UNDER = {
    "rclpy": ("ros", "nodes"),
    "torch": ("policy",),
    "safetensors": ("policy",),
    "tokenizers": ("policy",),
    "mujoco": ("sim",),
    "gymnasium": ("sim",),
    "trimesh": ("sim",),
    "mink": ("sim",),
    "lerobot": ("recording", "policy", "teleop"),
}
# The commands import a heavy package only inside functions, after the arguments are read.
LAZY = {"torch": ("cli",), "rclpy": ("cli",)}


def imports(tree):
    """Yield (module, inside a function) of every import."""

    def walk(node, inside):
        for child in ast.iter_child_nodes(node):
            deeper = inside or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield alias.name, inside
            elif isinstance(child, ast.ImportFrom):
                source = "." * child.level + (child.module or "")
                yield source, inside
                for alias in child.names:
                    yield f"{source}.{alias.name}", inside
            elif isinstance(child, ast.Call) and (name := imported_by_call(child)):
                yield name, inside
            yield from walk(child, deeper)

    yield from walk(tree, False)


def imported_by_call(call):
    """Return the module of `importlib.import_module("...")`; None for any other call."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    text = call.args[0] if call.args else None
    known = name == "import_module" and isinstance(text, ast.Constant)
    return text.value if known else None


def part_of(module):
    """Return which part of the project a module belongs to; None for others."""
    names = module.split(".")
    if names[0] == "moxin_sim":
        return "sim"
    return names[1] if names[0] == "moxin_vla" and len(names) > 1 and names[1] in LEVEL else None


def violations(part, source):
    """Return what a file of `part` imports against the rules."""
    found = []
    for module, inside in imports(ast.parse(source)):
        other, package = part_of(module), module.split(".")[0]
        if package == "":
            found.append(f"{part} imports {module}, which hides where it leads")
        if other is not None and other != part:
            if LEVEL[other] > LEVEL[part]:
                found.append(f"{part} imports {module} from above")
            elif LEVEL[other] == LEVEL[part] == 1 and "system" not in (other, part):
                found.append(f"stage {part} imports stage {other}: {module}")
        lazy = inside and part in LAZY.get(package, ())
        if part not in ONLY_UNDER.get(package, (part,)) and not lazy:
            found.append(f"{part} imports {package}")
    return sorted(set(found))


def files():
    for path in sorted((ROOT / "moxin_vla").rglob("*.py")):
        parts = path.relative_to(ROOT / "moxin_vla").with_suffix("").parts
        if parts[0] != "__init__":
            yield parts[0], path
    for path in sorted((ROOT / "sim").rglob("*.py")):
        yield "sim", path


@pytest.mark.parametrize(
    ("part", "path"), [pytest.param(*f, id=str(f[1].relative_to(ROOT))) for f in files()]
)
def test_imports_keep_the_direction(part, path):
    assert part in LEVEL, f"say in LEVEL where the new part '{part}' stands"
    assert violations(part, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("part", "source", "expected"),
    [
        (
            "core",
            "from moxin_vla.runtime import loop",
            "core imports moxin_vla.runtime from above",
        ),
        (
            "runtime",
            "import moxin_vla.safety.limits",
            "stage runtime imports stage safety: moxin_vla.safety.limits",
        ),
        ("runtime", "def f():\n    import rclpy", "runtime imports rclpy"),
        ("evaluation", "import torch", "evaluation imports torch"),
        ("cli", "import torch", "cli imports torch"),
        ("cli", "import rclpy", "cli imports rclpy"),
        ("safety", "import importlib\nimportlib.import_module('torch')", "safety imports torch"),
        ("ros", "from ..nodes import x", "ros imports ..nodes, which hides where it leads"),
        ("policy", "from moxin_sim import Tabletop", "policy imports moxin_sim from above"),
        ("ros", "from mujoco import MjModel", "ros imports mujoco"),
    ],
)
def test_the_check_itself_can_fail(part, source, expected):
    assert expected in violations(part, source)


def test_what_is_allowed_passes():
    assert (
        violations("nodes", "import rclpy\nfrom moxin_vla.runtime.loop import ControlLoop") == []
    )
    assert violations("cli", "def run():\n    import torch, rclpy") == []


def test_the_control_path_does_not_load_torch():
    import subprocess
    import sys

    code = (
        "import sys, moxin_vla.runtime, moxin_vla.safety, moxin_vla.observation.assembler, "
        "moxin_vla.policy.scripted, moxin_vla.evaluation.report; "
        "print([m for m in ('torch', 'rclpy', 'mujoco', 'lerobot') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
