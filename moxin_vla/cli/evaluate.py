"""`moxin-vla eval`: run a policy closed loop on seeded episodes and say honestly how often it
succeeds.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from moxin_vla.core.resources import resource_path

if TYPE_CHECKING:
    from moxin_vla.evaluation.config import EvaluationConfig

# Said here again, as importing them takes longer than all the rest of `--help`; a test compares.
FAMILIES = ("touch", "pick", "place")
JOINERS = (
    *("synchronous", "naive", "decay_blend", "temporal_ensemble"),
    *("gated", "state_roll", "prefix"),
)


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "eval", help="evaluate a policy in simulation", description=__doc__
    )
    parser.add_argument("policy", help="checkpoint directory, `expert`, or `scripted:NAME`")
    parser.add_argument(
        "--families",
        nargs="+",
        default=list(FAMILIES),
        metavar="FAMILY",
        help=f"default: {' '.join(FAMILIES)}",
    )
    parser.add_argument(
        "--episodes", type=int, default=20, help="episodes per family (default %(default)s)"
    )
    parser.add_argument(
        "--first-seed", type=int, default=0, help="seed of the first episode (default %(default)s)"
    )
    parser.add_argument(
        "--over",
        choices=("inprocess", "ros"),
        default="inprocess",
        help="one process, or the ROS nodes",
    )
    parser.add_argument(
        "--mode", choices=("lockstep", "realtime"), default="lockstep", help="with --over ros"
    )
    _add_latency(parser)
    parser.add_argument(
        "--workers", type=int, default=1, help="processes, in process only (default %(default)s)"
    )
    parser.add_argument(
        "--no-self-test",
        action="store_true",
        help="evaluate a policy that was not tested at start-up",
    )
    parser.add_argument("--device", default="cpu", help="torch device (default %(default)s)")
    parser.add_argument(
        "--embodiment",
        type=Path,
        default=None,
        help="embodiment file (default: the simulated SO-101)",
    )
    _add_report(parser)
    parser.set_defaults(run=run)


def _add_latency(parser: argparse.ArgumentParser) -> None:
    """Register when plans are made, how late they come, and how they are joined."""
    parser.add_argument(
        "--execution-horizon",
        type=int,
        default=8,
        help="steps played from each chunk (default %(default)s)",
    )
    parser.add_argument(
        "--delay",
        metavar="D[,D...]",
        help="inject inference delay and compare joiners under it: control steps, "
        "spiky:USUAL:SPIKE:EVERY or trace:FILE",
    )
    parser.add_argument(
        "--joiner",
        metavar="NAME[,NAME...]",
        help=f"how a new chunk joins the plan: `all`, or of {', '.join(JOINERS)}",
    )


def _add_report(parser: argparse.ArgumentParser) -> None:
    """Register what is looked at besides success, and where it goes."""
    parser.add_argument(
        "--listening", action="store_true", help="repeat each success with another object named"
    )
    parser.add_argument(
        "--videos", type=int, default=3, help="filmed episodes per family (default %(default)s)"
    )
    parser.add_argument(
        "--failure-videos",
        type=int,
        default=3,
        help="failures per family played again for the camera, in process (default %(default)s)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/eval"),
        help="folder for the report (default %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Evaluate, print the table, write the report; returns the exit code."""
    from moxin_vla.evaluation.config import EvaluationConfig
    from moxin_vla.evaluation.session import evaluate

    config = EvaluationConfig(
        policy=args.policy,
        embodiment=args.embodiment or resource_path("config/embodiments/so101_sim.yaml"),
        families=tuple(args.families),
        episodes=args.episodes,
        first_seed=args.first_seed,
        execution_horizon=args.execution_horizon,
        over=args.over,
        mode=args.mode,
        workers=args.workers,
        videos=args.videos,
        failure_videos=args.failure_videos,
        device=args.device,
        self_test=not args.no_self_test,
    )
    name = Path(args.policy).name
    if args.delay is None and args.joiner is None:
        evaluate(config, args.out, title=f"Evaluation of {name}", listening=args.listening)
    else:
        _compare(args, config, f"{name} under inference delay")
    return 0


def _compare(args: argparse.Namespace, config: "EvaluationConfig", title: str) -> None:
    from moxin_vla.evaluation.config import EvaluationError
    from moxin_vla.evaluation.grid import evaluate_grid
    from moxin_vla.runtime.delay import NO_DELAY
    from moxin_vla.runtime.joiners import DEFAULT_JOINER

    if args.listening:
        raise EvaluationError("--listening goes with neither --delay nor --joiner.")
    delays = (args.delay or NO_DELAY.name).split(",")
    joiners = JOINERS if args.joiner == "all" else (args.joiner or DEFAULT_JOINER).split(",")
    evaluate_grid(config, delays, joiners, args.out, title)
