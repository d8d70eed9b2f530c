"""`moxin-vla`: one command, many verbs.

Each verb is a module of this package with `add_parser(subparsers)`, which sets `run=`, a function
from parsed arguments to an exit code. Heavy imports belong inside `run`, so that `--help` is quick
and a missing extra only breaks the verbs that need it.
"""

import argparse
import sys
import traceback
from collections.abc import Sequence

import moxin_vla
from moxin_vla.cli import (
    ask,
    bringup,
    convert,
    dataset,
    demo,
    doctor,
    evaluate,
    inspect,
    loop,
    nano,
    record,
    teleop,
    train,
)
from moxin_vla.core.errors import MoxinVlaError

_VERBS = (
    demo,
    evaluate,
    bringup,
    teleop,
    record,
    dataset,
    train,
    loop,
    inspect,
    convert,
    ask,
    nano,
    doctor,
)
# What a verb may find missing, and the extra that brings it.
_EXTRA_OF = {
    **dict.fromkeys(("mujoco", "so101_nexus", "gymnasium", "trimesh", "mink"), "sim"),
    **dict.fromkeys(("torch", "safetensors", "tokenizers"), "policy"),
    **dict.fromkeys(("rclpy", "sensor_msgs", "trajectory_msgs", "std_srvs"), "ros"),
    **dict.fromkeys(("diagnostic_msgs", "rosgraph_msgs", "lifecycle_msgs"), "ros"),
    **dict.fromkeys(("lerobot", "datasets", "av"), "data"),
}


def build_parser() -> argparse.ArgumentParser:
    """Return the parser with every verb."""
    parser = argparse.ArgumentParser(
        prog="moxin-vla",
        description="Run, evaluate and train vision-language-action policies on robots.",
    )
    parser.add_argument(
        "--version", action="version", version=f"moxin-vla {moxin_vla.__version__}"
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    subparsers = parser.add_subparsers(metavar="VERB", required=True)
    for verb in _VERBS:
        verb.add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a verb. A user's error is one message on stderr and exit code 2."""
    args = build_parser().parse_args(argv)
    try:
        return args.run(args)
    except MoxinVlaError as error:
        if args.debug:
            traceback.print_exc()
        print(f"moxin-vla: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        extra = _EXTRA_OF.get((error.name or "").partition(".")[0])
        if extra is None or args.debug:
            raise
        print(
            f"moxin-vla: {error.name} is not installed. "
            f"Install it with: pip install 'moxin_vla[{extra}]'",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
