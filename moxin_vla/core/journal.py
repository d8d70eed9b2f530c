"""A journal: one JSON object a line, appended; a process that is killed tears the last line."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def append_row(file: Path, row: Mapping[str, Any]) -> None:
    """Append a row; one that a killed writer has torn makes room for it."""
    if _is_torn(file):
        write_rows(file, read_rows(file))
    with file.open("a", encoding="utf-8") as journal:
        journal.write(json.dumps(row) + "\n")


def read_rows(file: Path) -> list[dict[str, Any]]:
    """Return the rows of a journal, without a torn last one; none if there is no file."""
    if not file.is_file():
        return []
    whole, _, _ = file.read_text(encoding="utf-8").rpartition("\n")
    return [json.loads(line) for line in whole.splitlines()]


def write_rows(file: Path, rows: list[dict[str, Any]]) -> None:
    """Write a journal anew; a reader finds the former one or this one."""
    beside = file.with_name(file.name + ".part")
    beside.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    beside.replace(file)


def _is_torn(file: Path) -> bool:
    size = file.stat().st_size if file.is_file() else 0
    if not size:
        return False
    with file.open("rb") as journal:
        journal.seek(size - 1)
        return journal.read(1) != b"\n"
