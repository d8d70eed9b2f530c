"""`moxin-vla demo`: the simulated SO-101 carries out instructions, driven by moxin-nano through
ROS 2 nodes in separate processes.
"""

import argparse
from pathlib import Path

from moxin_vla.cli.evaluate import FAMILIES
from moxin_vla.core.resources import resource_path

CHECKPOINT = "checkpoints/moxin-nano-so101"


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "demo", help="see a robot do what it is told", description=__doc__
    )
    parser.add_argument(
        "--episodes", type=int, default=2, help="per task family (default %(default)s)"
    )
    parser.add_argument("--first-seed", type=int, default=0, help="default %(default)s")
    parser.add_argument("--mode", choices=("realtime", "lockstep"), default="realtime")
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="default %(default)s")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the demo; returns 0 if at least half of the episodes succeeded."""
    from moxin_vla.evaluation.runner import EvaluationConfig
    from moxin_vla.evaluation.session import evaluate

    config = EvaluationConfig(
        policy=str(resource_path(CHECKPOINT)),
        embodiment=resource_path("config/embodiments/so101_sim.yaml"),
        families=FAMILIES,
        episodes=args.episodes,
        first_seed=args.first_seed,
        over="ros",
        mode=args.mode,
        videos=args.episodes,
    )
    print(
        "Starting sim_node, control_node and policy_node over ROS 2. The robot is told:",
        flush=True,
    )
    results = evaluate(
        config, args.out, title="moxin_vla demo: SO-101, moxin-nano, ROS 2", verbose=True
    )
    return 0 if 2 * sum(result.success for result in results) >= len(results) else 1
