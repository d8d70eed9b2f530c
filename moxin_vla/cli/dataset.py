"""`moxin-vla dataset`: what is in a LeRobotDataset v3, what is wrong with it, and new ones from
parts of it. Sources are never changed.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from moxin_vla.core.dataset import DRIVER, Drove
from moxin_vla.core.errors import RecordingError, listed

_DRIVERS = {drove.name.lower(): drove for drove in Drove}
_SHOWN, _NAMED = 30, 6  # kinds of findings, and episodes of each, in the terminal


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "dataset", help="check, filter, split and merge datasets", description=__doc__
    )
    verbs = parser.add_subparsers(metavar="WHAT", required=True)
    _add_check(verbs)
    _add_filter(verbs)
    split = verbs.add_parser("split", help="split a dataset into several new ones")
    split.add_argument("dataset", type=Path)
    split.add_argument("out", type=Path, help="folder that gets one dataset per part")
    split.add_argument(
        "--parts", default="train=0.9,test=0.1", help="NAME=SHARE,... (default %(default)s)"
    )
    split.add_argument("--seed", type=int, default=0, help="of the draw (default %(default)s)")
    split.set_defaults(run=run_split)
    merge = verbs.add_parser("merge", help="put several datasets into a new one")
    merge.add_argument("datasets", type=Path, nargs="+")
    merge.add_argument("--out", type=Path, required=True, help="new folder")
    merge.set_defaults(run=run_merge)


def _add_check(verbs: Any) -> None:
    check = verbs.add_parser("check", help="find what would spoil training; exit code 1 if any")
    check.add_argument("dataset", type=Path)
    check.add_argument(
        "--embodiment", type=Path, help="hold it against this robot (default: its own, if known)"
    )
    check.add_argument("--checkpoint", help="hold it against this checkpoint's statistics, too")
    check.add_argument("--html", type=Path, help="write a report with pictures and plots")
    check.add_argument("--json", action="store_true", help="print findings as JSON")
    check.set_defaults(run=run_check)


def _add_filter(verbs: Any) -> None:
    keep = verbs.add_parser("filter", help="copy the episodes that fit into a new dataset")
    keep.add_argument("dataset", type=Path)
    keep.add_argument("out", type=Path, help="new folder")
    keep.add_argument("--episodes", help="only these: 0-9,12")
    keep.add_argument("--drop", help="not these: 3,5-7")
    keep.add_argument("--success", action="store_true", help="only those marked as successful")
    keep.add_argument("--driver", choices=_DRIVERS, help="only those in which this one drove")
    keep.add_argument("--instruction", help="only those whose instruction contains this")
    keep.add_argument("--max-idle", type=float, help="at most this share of rows standing still")
    keep.add_argument("--sound", action="store_true", help="none in which `check` finds an error")
    keep.set_defaults(run=run_filter)


def run_check(args: argparse.Namespace) -> int:
    """Check a dataset; returns 1 if something would spoil training."""
    from rich.console import Console

    from moxin_vla.evaluation.dataset_report import dataset_facts, summary, write_dataset_html
    from moxin_vla.recording.quality.check import check
    from moxin_vla.recording.quality.findings import Severity
    from moxin_vla.recording.stored import StoredDataset

    console, dataset = Console(), StoredDataset(args.dataset)
    expected = _expected(dataset, args)
    with console.status("") as status:
        findings = check(dataset, expected, lambda name: status.update(f"checking {name}"))
    if args.html:
        write_dataset_html(args.html, dataset, findings, expected)
    failed = any(f.severity is Severity.ERROR for f in findings)
    if args.json:
        content = {
            "facts": dict(dataset_facts(dataset)),
            "findings": [asdict(f) for f in findings],
        }
        print(json.dumps(content, indent=1))
        return int(failed)
    for name, value in dataset_facts(dataset):
        console.print(f"[dim]{name}[/dim] {value}", highlight=False)
    _print_findings(console, findings)
    robot = expected.embodiment.name if expected.embodiment else "no embodiment"
    against = f"{robot} and {expected.reference.name}" if expected.reference else robot
    console.print(f"{summary(findings)} (held against {against})", highlight=False)
    if args.html:
        console.print(f"report: {args.html}", highlight=False)
    return int(failed)


def _print_findings(console: Any, findings: list[Any]) -> None:
    from rich.markup import escape
    from rich.table import Table

    from moxin_vla.recording.quality.findings import grouped

    if not findings:
        return
    colours = {"error": "red", "warning": "yellow", "note": "dim"}
    table = Table(box=None, pad_edge=False)
    for name in ("", "episodes", "what was found"):
        table.add_column(name)
    kinds = grouped(findings)
    for f, episodes in kinds[:_SHOWN]:
        text = escape(f"{f.column + ': ' if f.column else ''}{f.what}")
        text += escape(f"; {f.where}") if f.where else ""
        if len(episodes) > 1:
            text += f" (episode {episodes[0]}; the like in {len(episodes) - 1} more)"
        said = ", ".join(map(str, episodes[:_NAMED])) + (" ..." if len(episodes) > _NAMED else "")
        colour = colours[f.severity]
        table.add_row(
            f"[{colour}]{f.severity}[/]", said or "all", f"{text}\n[dim]{escape(f.advice)}[/]"
        )
    console.print(table)
    if len(kinds) > _SHOWN:
        console.print(f"... and {len(kinds) - _SHOWN} more: --html or --json shows all")


def _expected(dataset: Any, args: argparse.Namespace) -> Any:
    """Return what the dataset is held against: as asked, else the robot that it carries along."""
    from dataclasses import replace

    from moxin_vla.core.embodiment import load_embodiment
    from moxin_vla.recording.quality.check import own_expectation

    expected = own_expectation(dataset)
    if args.embodiment:
        expected = replace(expected, embodiment=load_embodiment(args.embodiment))
    if args.checkpoint:
        expected = replace(expected, reference=_reference(args.checkpoint))
    return expected


def _reference(source: str) -> Any:
    """Return what a checkpoint expects of data."""
    import numpy as np

    from moxin_vla.core.embodiment import ActionSpace
    from moxin_vla.policy.moxin.opening import open_checkpoint
    from moxin_vla.policy.moxin.policy_file import as_source
    from moxin_vla.recording.quality.expected import Bounds, Reference

    opened = open_checkpoint(as_source(source))
    config, statistics = opened.config, opened.statistics()
    relative = np.full(len(config.joints), config.action_space is ActionSpace.JOINT_DELTA)
    relative[list(config.absolute_dims)] = False
    own = config.proprio_names is None
    return Reference(
        name=config.name,
        names=config.joints,
        cameras=config.cameras,
        control_rate_hz=config.control_rate_hz,
        horizon=config.chunk,
        action=Bounds(statistics.action.low, statistics.action.high),
        proprio=Bounds(statistics.proprio.low, statistics.proprio.high) if own else None,
        relative_dims=relative,
        comparable=config.action_space is not ActionSpace.END_EFFECTOR_DELTA
        and config.gripper_convention == "joint",
    )


def run_filter(args: argparse.Namespace) -> int:
    """Copy the episodes that fit every condition."""
    from moxin_vla.recording.editing import take_episodes
    from moxin_vla.recording.stored import StoredDataset

    dataset = StoredDataset(args.dataset)
    kept = [e.index for e in dataset.episodes]
    for name, episodes in _conditions(dataset, args):
        fits = [index for index in kept if index in episodes]
        print(f"{name}: {len(fits)} of {len(kept)} episodes")
        kept = fits
    take_episodes(dataset, {args.out: kept})
    print(f"{len(kept)} of {len(dataset.episodes)} episodes in {args.out}")
    return 0


def _conditions(dataset: Any, args: argparse.Namespace) -> Any:
    """Yield each condition that was asked for, and the episodes that fit it."""
    from moxin_vla.evaluation.dataset_report import outcome
    from moxin_vla.recording.quality.check import check, own_expectation
    from moxin_vla.recording.quality.findings import Severity
    from moxin_vla.recording.quality.idle import idle_share

    episodes = dataset.episodes
    if args.episodes:
        yield "--episodes", set(_numbers(args.episodes))
    if args.drop:
        yield "--drop", {e.index for e in episodes} - set(_numbers(args.drop))
    if args.success:
        yield "--success", {e.index for e in episodes if outcome(e) == 1}
    if args.driver:
        who = _DRIVERS[args.driver]
        yield (
            f"--driver {args.driver}",
            {
                e.index
                for e in episodes
                if DRIVER in e.columns and (e.columns[DRIVER] == who).any()
            },
        )
    if args.instruction:
        yield (
            f"--instruction '{args.instruction}'",
            {
                e.index
                for e in episodes
                if any(args.instruction in (t or "") for t in e.instructions)
            },
        )
    if args.max_idle is not None:
        shares = idle_share(dataset)
        yield "--max-idle", {index for index, share in shares.items() if share <= args.max_idle}
    if args.sound:
        found = check(dataset, own_expectation(dataset))
        bad = {f.episode for f in found if f.severity is Severity.ERROR}
        yield "--sound", {e.index for e in episodes} - bad


def _numbers(text: str) -> list[int]:
    """Read `0-9,12`."""
    numbers: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise RecordingError(f"Episodes are written like 0-9,12. Got: '{text}'")
        numbers += range(int(first), int(last if dash else first) + 1)
    return numbers


def run_split(args: argparse.Namespace) -> int:
    """Split a dataset, drawing episodes at random."""
    import numpy as np

    from moxin_vla.recording.editing import take_episodes
    from moxin_vla.recording.stored import StoredDataset

    shares = _shares(args.parts)
    dataset = StoredDataset(args.dataset)
    count = len(dataset.episodes)
    drawn = np.random.default_rng(args.seed).permutation(count)
    ends = np.round(np.cumsum(list(shares.values())) * count).astype(int)
    parts = {
        args.out / name: sorted(part.tolist())
        for name, part in zip(shares, np.split(drawn, ends)[: len(shares)], strict=True)
    }
    take_episodes(dataset, parts)
    for target, episodes in parts.items():
        print(f"{len(episodes)} of {count} episodes in {target}")
    return 0


def _shares(text: str) -> dict[str, float]:
    try:
        pairs = [part.split("=") for part in text.split(",")]
        shares = {name.strip(): float(share) for name, share in pairs}
    except ValueError:
        raise RecordingError(f"Parts are written like train=0.9,test=0.1. Got: '{text}'") from None
    if len(shares) < len(pairs):
        raise RecordingError(f"Every part needs a name of its own. Got: '{text}'")
    if not all(share > 0 for share in shares.values()) or sum(shares.values()) > 1 + 1e-9:
        raise RecordingError(f"Shares are above 0 and at most 1 together. Got: '{text}'")
    return shares


def run_merge(args: argparse.Namespace) -> int:
    """Merge datasets."""
    from moxin_vla.recording.editing import merge
    from moxin_vla.recording.stored import StoredDataset

    merge([StoredDataset(root) for root in args.datasets], args.out)
    print(
        f"{listed(args.datasets)}: {len(StoredDataset(args.out).episodes)} episodes in {args.out}"
    )
    return 0
