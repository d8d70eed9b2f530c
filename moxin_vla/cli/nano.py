"""`moxin-vla nano`: make moxin-nano from nothing: record, train, let it drive, train on. Run it
again to go on.
"""

import argparse
import signal
import subprocess
import sys
import time
from pathlib import Path

from moxin_vla.cli.evaluate import FAMILIES
from moxin_vla.core.embodiment import Embodiment, load_embodiment
from moxin_vla.core.errors import MoxinVlaError
from moxin_vla.core.protocols import Policy
from moxin_vla.core.resources import resource_path

_POLL_S = 5.0


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "nano", help="train moxin-nano: record, train, DAgger; resumable", description=__doc__
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/nano"), help="folder for data, state and checkpoint"
    )
    parser.add_argument(
        "--recipe", type=Path, default=resource_path("config/policies/moxin_nano.yaml")
    )
    parser.add_argument(
        "--embodiment", type=Path, default=resource_path("config/embodiments/so101_sim.yaml")
    )
    parser.add_argument(
        "--episodes", type=int, default=100, help="evaluated per family (default %(default)s)"
    )
    parser.add_argument(
        "--workers", type=int, default=2, help="processes of the evaluation (default %(default)s)"
    )
    parser.add_argument("--threads", type=int, default=1, help="torch threads for training")
    parser.add_argument(
        "--stage",
        choices=("all", "record", "train", "evaluate"),
        default="all",
        help="all: recorder and trainer side by side, then the evaluation; or one of them alone",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the stage; returns the exit code."""
    if args.stage == "record":
        return _record(args)
    if args.stage == "train":
        return _train(args)
    if args.stage == "evaluate":
        return _evaluate(args)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the recorder ends with us
    recorder = subprocess.Popen([*_again(args), "--stage", "record"])
    try:
        _train(args)
    finally:
        recorder.terminate()
        recorder.wait()
    return _evaluate(args)


def _again(args: argparse.Namespace) -> list[str]:
    options = ["--out", args.out, "--recipe", args.recipe, "--embodiment", args.embodiment]
    return [sys.executable, "-m", "moxin_vla.cli.main", "nano", *map(str, options)]


def _record(args: argparse.Namespace) -> int:
    """Record shards in order; once the expert's are done, the newest checkpoint drives."""
    from moxin_sim.demonstrations import ShardPlan, record_shard
    from moxin_vla.core.dataset import is_finished
    from moxin_vla.policy.moxin.training.recipe import load_recipe

    recipe, embodiment = load_recipe(args.recipe).data, load_embodiment(args.embodiment)
    for index in range(recipe.max_shards):
        root = args.out / "data" / f"shard_{index:03d}"
        if is_finished(root):
            continue
        driven = index >= recipe.expert_shards
        checkpoint = args.out / "checkpoint"
        policy = _newest(checkpoint, embodiment) if driven else None
        plan = ShardPlan(
            root=root,
            first_seed=recipe.first_seed + index * recipe.seeds_per_shard,
            episodes=recipe.episodes_per_shard,
            policy_share=recipe.policy_share if driven else 0.0,
            stride=recipe.stride,
        )
        metadata = {
            "driver": f"policy {policy.spec.fingerprint}" if policy else "expert",
            "policy_share": plan.policy_share,
            "first_seed": plan.first_seed,
            "stride": plan.stride,
            "noise": "bursts",
        }
        solved: list[bool] = []
        record_shard(
            plan, embodiment, policy, metadata, lambda _, success, s=solved: s.append(success)
        )
        print(
            f"recorded {root.name}: {sum(solved)} of {len(solved)} episodes solved, "
            f"driver {metadata['driver']}",
            flush=True,
        )
    return 0


def _newest(checkpoint: Path, embodiment: Embodiment) -> Policy:
    """Load the newest checkpoint; wait while there is none, or while it is being exchanged."""
    from moxin_vla.policy.loading import load_policy

    told = ""
    while True:
        try:
            return load_policy(str(checkpoint), embodiment)
        except MoxinVlaError as error:
            if str(error) != told:
                print(f"recorder: waiting for a checkpoint at '{checkpoint}'", flush=True)
            told = str(error)
            time.sleep(_POLL_S)


def _train(args: argparse.Namespace) -> int:
    import torch

    from moxin_sim import instructions
    from moxin_vla.policy.moxin.training.recipe import Workshop, load_recipe

    torch.set_num_threads(args.threads)
    recipe = load_recipe(args.recipe)
    workshop = Workshop(args.out, recipe, load_embodiment(args.embodiment), instructions())
    while not workshop.ready:
        print(f"waiting for the first datasets in {args.out / 'data'}", flush=True)
        time.sleep(30)
    total = recipe.total_samples

    def show(row: dict[str, float]) -> None:
        print(
            f"{row['samples']:>8.0f} of {total} samples  {row['frames']:.0f} frames  "
            f"action {row['action']:.4f}  "
            f"located {row['located']:.3f}  vector {row['vector']:.3f}",
            flush=True,
        )

    workshop.train(show)
    print(f"checkpoint: {workshop.checkpoint}")
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    """Count on unseen seeds, with the listening test, and write the card."""
    from moxin_vla.evaluation.card import write_card
    from moxin_vla.evaluation.runner import EvaluationConfig
    from moxin_vla.evaluation.session import evaluate

    checkpoint, out = args.out / "checkpoint", args.out / "evaluation"
    config = EvaluationConfig(
        policy=str(checkpoint),
        embodiment=args.embodiment,
        families=FAMILIES,
        episodes=args.episodes,
        workers=args.workers,
    )
    evaluate(config, out, title="Evaluation of moxin-nano", listening=True)
    write_card(checkpoint, args.out, args.recipe, out / "results.json")
    print(f"card: {checkpoint / 'README.md'}")
    return 0
