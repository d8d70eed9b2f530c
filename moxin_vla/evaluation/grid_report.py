"""A grid as a person reads it: a table in the terminal, report.html and results.json."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from moxin_vla.evaluation.cells import SCHEMA, Cell
from moxin_vla.evaluation.grid_plots import COLOURS, Line, Point, chart
from moxin_vla.evaluation.paired import DECISIVE, PairedTest, paired_test
from moxin_vla.evaluation.report import page_environment, plain
from moxin_vla.evaluation.statistics import percent
from moxin_vla.runtime.delay import NO_DELAY
from moxin_vla.runtime.joiners import JOINERS

_SHOWN_REASONS = 5


class Grid:
    """Cells by method and delay; a method is a joiner, and a policy if there are several.

    Args:
        cells: In any order.
    """

    def __init__(self, cells: Sequence[Cell]) -> None:
        several = len({cell.fingerprint for cell in cells}) > 1
        self._cells = {}
        for cell in sorted(cells, key=lambda c: (JOINERS.index(c.joiner), c.fingerprint)):
            name = f"{cell.joiner} ({cell.fingerprint[:8]})" if several else cell.joiner
            self._cells[name, cell.delay] = cell
        self.methods = list(dict.fromkeys(name for name, _ in self._cells))
        self.delays = sorted({cell.delay for cell in cells}, key=_by_size)

    def cell(self, method: str, delay: str) -> Cell | None:
        """Return a cell; None if it was not measured."""
        return self._cells.get((method, delay))

    def items(self) -> list[tuple[str, Cell]]:
        """Return (method, cell), method by method, delays in order."""
        places = [(method, delay) for method in self.methods for delay in self.delays]
        return [(place[0], self._cells[place]) for place in places if place in self._cells]

    def kept(self, method: str, cell: Cell) -> float:
        """Return the share of its success without delay that a method keeps; NaN if unknown."""
        start = self.cell(method, NO_DELAY.name)
        return cell.rate / start.rate if start and start.rate else float("nan")

    def pairs(self, delay: str) -> dict[tuple[str, str], PairedTest]:
        """Return the paired test of every two methods measured under a delay."""
        here = {m: c for m in self.methods if (c := self.cell(m, delay))}
        return {
            (one, other): paired_test(here[one].wins, here[other].wins)
            for one in here
            for other in here
            if one != other
        }


def _by_size(delay: str) -> tuple[int, float, str]:
    return (0, float(delay), delay) if delay.isdigit() else (1, 0.0, delay)


def write_grid_json(path: Path, cells: Sequence[Cell]) -> None:
    """Write the summary of every cell and every paired test; the episodes are in `cells/`."""
    grid = Grid(cells)
    tests = [
        {"delay": delay, "first": one, "second": other, **asdict(test), "e_value": test.evidence}
        for delay in grid.delays
        for (one, other), test in grid.pairs(delay).items()
    ]
    content = {
        "schema": SCHEMA,
        "conditions": cells[0].conditions,
        "cells": [_summary(grid, name, cell) for name, cell in grid.items()],
        "paired_tests": tests,
    }
    text = json.dumps(plain(content), indent=1, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def _summary(grid: Grid, method: str, cell: Cell) -> dict[str, Any]:
    return {
        "method": method,
        "joiner": cell.joiner,
        "delay": cell.delay,
        "policy": cell.policy,
        "fingerprint": cell.fingerprint,
        "successes": sum(cell.wins),
        "trials": len(cell.episodes),
        "interval": cell.interval,
        "kept": grid.kept(method, cell),
        "time_s": cell.time_s,
        "jump_rad_mean": cell.jump_rad[0],
        "jump_rad_p95": cell.jump_rad[1],
        "jerk_rms": cell.jerk_rms,
        "limited_ticks": cell.limited_ticks,
        "held_ticks": cell.held_ticks,
        "measured_with": cell.measured_with,
    }


def print_grid(console: Console, cells: Sequence[Cell]) -> None:
    """Print one row per cell."""
    grid = Grid(cells)
    table = Table(
        title="Joiners under delay", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False
    )
    table.add_column("joiner", no_wrap=True, min_width=max(map(len, grid.methods)))
    for name in ("d", "success", "95 %", "time", "jump", "limited", "held"):
        table.add_column(name, justify="right", no_wrap=True, min_width=len(name))
    for row in _rows(grid):
        table.add_row(
            row["name"],
            row["delay"],
            f"{row['successes']}/{row['trials']}",
            "{:.0f}-{:.0f}".format(*(100 * bound for bound in row["interval"])),
            row["time"],
            row["jump"],
            f"{row['limited']:.1f}",
            f"{row['held']:.1f}",
            end_section=row["last"],
        )
    console.print(table)
    console.print("95 %: Wilson interval. jump: where plans meet, mean / p95, in mrad.")
    for delay in grid.delays:
        for (one, other), test in grid.pairs(delay).items():
            if test.verdict == "better":
                console.print(
                    f"d = {delay}: {one} is better than {other}, "
                    f"{test.wins} to {test.losses}, E = {_number(test.evidence)}"
                )


def _rows(grid: Grid) -> list[dict[str, Any]]:
    items, rows = grid.items(), []
    for index, (name, cell) in enumerate(items):
        mean, p95 = (1000 * jump for jump in cell.jump_rad)
        kept = grid.kept(name, cell)
        rows.append(
            {
                "name": name,
                "delay": cell.delay,
                "first": index > 0 and items[index - 1][0] != name,
                "last": index + 1 < len(items) and items[index + 1][0] != name,
                "successes": sum(cell.wins),
                "trials": len(cell.episodes),
                "interval": cell.interval,
                "kept": percent(kept) if np.isfinite(kept) else "-",
                "time": f"{cell.time_s:.2f} s" if np.isfinite(cell.time_s) else "-",
                "jump": f"{mean:.0f} / {p95:.0f}" if np.isfinite(mean) else "-",
                "jerk": f"{cell.jerk_rms:.0f}",
                "limited": cell.limited_ticks,
                "held": cell.held_ticks,
            }
        )
    return rows


def write_grid_html(path: Path, title: str, cells: Sequence[Cell], step_ns: int) -> None:
    """Write the report; it needs nothing but a browser."""
    grid = Grid(cells)
    lines = _key(grid)
    comparisons = sum(len(grid.pairs(delay)) // 2 for delay in grid.delays)
    page = (
        page_environment()
        .get_template("grid.html.j2")
        .render(
            title=title,
            subtitle=f"{len(cells)} cells of {len(cells[0].episodes)} episodes each, the same "
            "episodes in every cell, judged by the simulator",
            charts=_charts(grid),
            key=lines,
            rows=_rows(grid),
            step_ms=f"{step_ns / 1e6:g}",
            pairs=[_pair_block(grid, delay) for delay in grid.delays],
            evidence=(
                f"E is the evidence that the two differ, valid however often one looks: if they "
                f"do not, the chance that E ever reaches {DECISIVE:g} (coloured) is at most 1 in "
                f"{DECISIVE:g}. Here are {comparisons} comparisons; to be as sure of all of them "
                f"at once, ask for {DECISIVE * comparisons:g}."
            ),
            failures=_failures(grid),
            settings=_settings(cells),
        )
    )
    path.write_text(page, encoding="utf-8")


def _key(grid: Grid) -> list[tuple[str, str]]:
    return [(name, COLOURS[i % len(COLOURS)]) for i, name in enumerate(grid.methods)]


def _charts(grid: Grid) -> str:
    def lines(point: Any) -> list[Line]:
        return [
            Line(
                name,
                colour,
                tuple(
                    point(column, cell)
                    for column, delay in enumerate(grid.delays)
                    if (cell := grid.cell(name, delay))
                ),
            )
            for name, colour in _key(grid)
        ]

    def success(column: int, cell: Cell) -> Point:
        low, high = (100 * bound for bound in cell.interval)
        return Point(column, 100 * cell.rate, low, high)

    def jump(column: int, cell: Cell) -> Point:
        mean = 1000 * cell.jump_rad[0]
        return Point(column, mean, mean, mean)

    def time(column: int, cell: Cell) -> Point:
        return Point(column, cell.time_s, cell.time_s, cell.time_s)

    def jerk(column: int, cell: Cell) -> Point:
        return Point(column, cell.jerk_rms, cell.jerk_rms, cell.jerk_rms)

    return (
        chart("Success, with 95 % Wilson intervals", grid.delays, lines(success), 100.0, " %")
        + chart("Jump where plans meet, mean, in mrad", grid.delays, lines(jump), None, "")
        + chart("Time to success, mean, in s", grid.delays, lines(time), None, "")
        + chart("Jerk of the commands, rms, in rad/s³", grid.delays, lines(jerk), None, "")
    )


def _pair_block(grid: Grid, delay: str) -> dict[str, Any]:
    tests = grid.pairs(delay)
    names = [method for method in grid.methods if grid.cell(method, delay)]
    return {
        "delay": delay,
        "names": names,
        "rows": [
            {"name": one, "cells": [_pair_cell(tests.get((one, other))) for other in names]}
            for one in names
        ],
    }


def _pair_cell(test: PairedTest | None) -> dict[str, str]:
    if test is None:
        return {"text": "", "verdict": ""}
    text = f"{test.wins} : {test.losses}, {_number(test.evidence)}"
    return {"text": text, "verdict": test.verdict}


def _number(value: float) -> str:
    return f"{value:.2g}" if value < 1000 else f"{value:.0e}"


def _failures(grid: Grid) -> list[dict[str, str]]:
    rows = []
    for name, cell in grid.items():
        reasons = Counter(e.failure for e in cell.episodes if not e.success)
        said = ", ".join(f"{text} ({n})" for text, n in reasons.most_common(_SHOWN_REASONS))
        if said:
            more = len(reasons) - _SHOWN_REASONS
            rest = f", and {more} more" if more > 0 else ""
            rows.append({"name": name, "delay": cell.delay, "reasons": said + rest})
    return rows


def _settings(cells: Sequence[Cell]) -> list[tuple[str, str]]:
    """Return what all cells share, and every value where they differ."""
    found: dict[str, dict[str, None]] = {}
    for cell in cells:
        mine = {"policy": cell.policy, "policy fingerprint": cell.fingerprint or "none"}
        for name, value in (mine | cell.conditions | cell.measured_with).items():
            found.setdefault(name, {})[value] = None
    return [(name, "; ".join(values)) for name, values in found.items()]
