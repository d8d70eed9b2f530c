"""`moxin-vla convert`: write a checkpoint in another layout, every tensor unchanged."""

import argparse
from pathlib import Path


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "convert", help="write a checkpoint in another layout", description=__doc__
    )
    parser.add_argument("checkpoint", help="directory, policy file (.yaml) or Hugging Face id")
    parser.add_argument("target", type=Path, help="new directory")
    parser.add_argument(
        "--to",
        choices=("moxin", "released", "native"),
        default="moxin",
        help="moxin: ready for a robot; released: as on Hugging Face; native: Prismatic's own "
        "(default %(default)s)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Convert and say the hash."""
    from moxin_vla.policy.moxin.conversion import RECORD, convert_checkpoint
    from moxin_vla.policy.moxin.policy_file import as_source

    done = convert_checkpoint(as_source(args.checkpoint), args.target, args.to)
    print(f"{done.tensors} tensors written to {done.target}, read back and found equal")
    print(f"sha256 of all tensors: {done.digest}  (files: {done.target / RECORD})")
    return 0
