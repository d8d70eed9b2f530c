"""Files that survive a power cut: written beside their place, flushed, then put there at once."""

import json
import os
from pathlib import Path
from typing import Any


def flush(path: Path) -> None:
    """Force a file or a folder's list of names to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file; a reader finds the former one or this one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    with beside.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    flush(path.parent)


def put(source: Path, target: Path) -> None:
    """Move a flushed file to its place, on the same disk; replaces what is there."""
    new = [folder for folder in target.parents if not folder.exists()]  # innermost first
    target.parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)
    flush(target.parent)
    for folder in new:
        flush(folder.parent)


def size_mb(folder: Path) -> float:
    """Return what the files under a folder take, in MB."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6
