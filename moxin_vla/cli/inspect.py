"""`moxin-vla inspect`: what a checkpoint is, needs and gives, and what would be refused."""

import argparse
from pathlib import Path


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "inspect", help="say what a checkpoint is and whether it fits", description=__doc__
    )
    parser.add_argument("checkpoint", help="directory, policy file (.yaml) or Hugging Face id")
    parser.add_argument("--embodiment", type=Path, default=None, help="robot that it shall fit")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print what there is; returns 1 if loading would refuse it."""
    from rich.console import Console
    from rich.markup import escape

    from moxin_vla.core.embodiment import load_embodiment
    from moxin_vla.policy.moxin.inspection import inspect_checkpoint
    from moxin_vla.policy.moxin.policy_file import as_source

    embodiment = None if args.embodiment is None else load_embodiment(args.embodiment)
    found = inspect_checkpoint(as_source(args.checkpoint), embodiment)
    console = Console(highlight=False, soft_wrap=True)
    for title, rows in found.sections.items():
        console.print(f"[bold]{title}[/bold]")
        width = max((len(name) for name, _ in rows), default=0)
        for name, value in rows:
            console.print(f"  {escape(name):<{width}}  {escape(value)}")
    for refusal in found.refusals:
        console.print(f"[bold red]would be refused[/bold red]  {escape(refusal)}")
    if not found.refusals:
        console.print("[bold green]nothing would be refused[/bold green]")
    return int(bool(found.refusals))
