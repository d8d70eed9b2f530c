"""Joiners against delays, on the same episodes: measured cell by cell, and taken up again where
the last call stopped.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from moxin_vla.core.embodiment import Embodiment, load_embodiment
from moxin_vla.core.protocols import PolicySpec
from moxin_vla.evaluation.cells import (
    Cell,
    check_conditions,
    load_cells,
    record,
    save_cell,
)
from moxin_vla.evaluation.config import EXPERT, EvaluationConfig, EvaluationError, check_horizon
from moxin_vla.evaluation.grid_report import print_grid, write_grid_html, write_grid_json
from moxin_vla.evaluation.provenance import provenance
from moxin_vla.evaluation.runner import plan_episodes
from moxin_vla.evaluation.session import make_folder, play
from moxin_vla.evaluation.settings import short_hash, shown_path
from moxin_vla.policy.loading import read_spec
from moxin_vla.runtime.delay import parse_delay


def evaluate_grid(
    config: EvaluationConfig,
    delays: Sequence[str],
    joiners: Sequence[str],
    out: Path,
    title: str,
) -> list[Cell]:
    """Measure every joiner under every delay, print the table, write report and results to `out`.

    A cell that `out` already holds is not measured again, so a joiner or a policy is added to a
    grid by calling this once more; the report shows everything in the folder.

    Args:
        config: What to run; its own `delay` and `joiner` do not count.
        delays: Injected delays, as `parse_delay` reads them.
        joiners: Names of joiners.
        out: Folder; made if missing.
        title: Of the report.

    Raises:
        EvaluationError: The folder holds a grid of other episodes, or the expert is asked for.
        DelayError: A delay can't be bridged; nothing was started.
    """
    console, embodiment = Console(), load_embodiment(config.embodiment)
    spec = _checked_spec(config, embodiment, delays, joiners)
    folder, conditions = out / "cells", _conditions(config, embodiment)
    make_folder(folder)
    measured = load_cells(folder)
    check_conditions(measured, conditions)
    known = {(cell.joiner, cell.delay, cell.fingerprint) for cell in measured}
    for delay in delays:
        for joiner in joiners:
            if (joiner, delay, spec.fingerprint) in known:
                console.print(f"{joiner} at delay {delay}: measured before")
                continue
            cell = _measure(
                console, replace(config, delay=delay, joiner=joiner), spec, embodiment, conditions
            )
            save_cell(folder, cell)
    cells = load_cells(folder)
    write_grid_json(out / "results.json", cells)
    write_grid_html(out / "report.html", title, cells, embodiment.step_ns)
    print_grid(console, cells)
    console.print(f"Report: {(out / 'report.html').resolve()}", soft_wrap=True)
    return cells


def _checked_spec(
    config: EvaluationConfig,
    embodiment: Embodiment,
    delays: Sequence[str],
    joiners: Sequence[str],
) -> PolicySpec:
    """Refuse what can't be run before anything is started."""
    if config.policy == EXPERT:
        raise EvaluationError(
            "The expert is no policy under test. Choose a checkpoint or scripted:NAME."
        )
    spec = read_spec(config.policy, embodiment)
    for delay in delays:
        for joiner in joiners:
            checked = replace(config, delay=delay, joiner=joiner)
            trace = parse_delay(delay, embodiment.step_ns)
            check_horizon(spec, checked.execution_horizon, joiner, trace)
    return spec


def _conditions(config: EvaluationConfig, embodiment: Embodiment) -> dict[str, str]:
    """Return what cells must share to be compared."""
    seeds = config.seeds
    return {
        "families": ", ".join(config.families),
        "seeds per family": f"{seeds.start} to {seeds.stop - 1}",
        "execution horizon": f"{config.execution_horizon} steps",
        "embodiment": f"{embodiment.name}, file {short_hash(config)}",
        "control rate": f"{embodiment.control_rate_hz:g} Hz",
    }


def _measure(
    console: Console,
    config: EvaluationConfig,
    spec: PolicySpec,
    embodiment: Embodiment,
    conditions: dict[str, str],
) -> Cell:
    """Play the episodes of one cell."""
    episodes = [(episode, False) for episode, _ in plan_episodes(config)]
    label = f"{config.joiner} at delay {config.delay}"
    results = play(console, config, episodes, False, label)
    transport = "in process" if config.over == "inprocess" else f"over ROS 2, {config.mode}"
    cell = Cell(
        joiner=config.joiner,
        delay=config.delay,
        policy=shown_path(config.policy),
        fingerprint=spec.fingerprint,
        conditions=conditions,
        measured_with={
            "prediction horizon": f"{spec.horizon} steps",
            "run": transport,
            "device": config.device,
            **provenance(),
        },
        episodes=tuple(record(result, embodiment.gripper_index) for result in results),
    )
    console.print(f"{label}: {sum(cell.wins)} of {len(cell.episodes)} succeeded")
    return cell
