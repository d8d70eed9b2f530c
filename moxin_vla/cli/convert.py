"""`moxin-vla convert`: bags into datasets and back, or a checkpoint into another layout.

What SOURCE is decides what is done: a bag (rosbag2 folder, .mcap, .db3, .bag), a dataset, or a
checkpoint.
"""

import argparse
from pathlib import Path

from moxin_vla.core.errors import MoxinVlaError, RecordingError, listed
from moxin_vla.core.resources import resource_path

_BAG_FILES = (".mcap", ".db3", ".bag")


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "convert", help="convert bags, datasets and checkpoints", description=__doc__
    )
    parser.add_argument("source", help="a bag, a dataset, or a checkpoint")
    parser.add_argument("target", type=Path, help="new folder; a dataset is extended")
    bags = parser.add_argument_group("bags")
    bags.add_argument("--embodiment", type=Path, help="default: the simulated SO-101")
    bags.add_argument(
        "--instruction", default="", help="what the arm is to do, if the bag does not say so"
    )
    bags.add_argument(
        "--command-topic",
        default="/control_node/command",
        help="JointTrajectory with one point each, or a leader's JointState (default %(default)s)",
    )
    bags.add_argument("--codec", default="auto", help="as in record (default %(default)s)")
    checkpoints = parser.add_argument_group("checkpoints")
    checkpoints.add_argument(
        "--to",
        choices=("moxin", "released", "native"),
        default="moxin",
        help="moxin: ready for a robot; released: as on Hugging Face; native: Prismatic's own "
        "(default %(default)s)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Convert what was named."""
    source = Path(args.source)
    args.embodiment = args.embodiment or resource_path("config/embodiments/so101_sim.yaml")
    if source.suffix in _BAG_FILES or (source / "metadata.yaml").is_file():
        return _bag(args, source)
    if (source / "meta" / "info.json").is_file():
        return _dataset(args, source)
    if source.is_dir() and any(f.suffix in _BAG_FILES for f in source.iterdir()):
        raise RecordingError(
            f"'{source}' holds a bag without metadata.yaml: its recording was cut off. "
            "Mend it first with: ros2 bag reindex"
        )
    return _checkpoint(args)


def _bag(args: argparse.Namespace, source: Path) -> int:
    """Append the bag's episodes to the dataset and say what became of each."""
    from moxin_vla.core.embodiment import load_embodiment
    from moxin_vla.recording.bag_episodes import convert_bag
    from moxin_vla.recording.bags import Bag
    from moxin_vla.recording.codec import choose_codec
    from moxin_vla.recording.features import recording_features
    from moxin_vla.recording.metadata import dataset_metadata, rows_per_second
    from moxin_vla.recording.store import DatasetStore

    if not source.exists():
        raise RecordingError(f"There is no bag at '{source}'.")
    robot = load_embodiment(args.embodiment)
    codec = choose_codec(args.codec, [(c.width, c.height) for c in robot.cameras])
    with Bag(source, robot, args.command_topic) as bag:
        announced = len(bag.announced())
        print(
            f"{announced} episodes, as recorder_node announced them"
            if announced
            else "nobody announced episodes: cut where commands pause or the instruction changes"
        )
        store = DatasetStore(
            args.target,
            recording_features(robot, codec.kind),
            rows_per_second(robot),
            robot.name,
            dataset_metadata(robot, args.embodiment, codec),
            codec,
        )
        with store:
            done = convert_bag(bag, store, robot, args.instruction, str(source))
    for written in done:
        where = "not kept" if written.index is None else f"episode {written.index}"
        print(f"  {where}: {written.rows} rows; {written.why}")
    kept = sum(written.index is not None for written in done)
    if not kept:
        raise MoxinVlaError(f"No episode of '{source}' could be converted.")
    print(f"{kept} episodes in {args.target}; images by {codec.name}")
    return 0 if kept == len(done) else 1


def _dataset(args: argparse.Namespace, source: Path) -> int:
    """Write the dataset's messages into a bag."""
    from moxin_vla.core.embodiment import load_embodiment
    from moxin_vla.recording.bag_export import export_bag

    if args.target.suffix in _BAG_FILES:
        raise MoxinVlaError(
            f"A bag is a folder; name one without {listed(_BAG_FILES)}: '{args.target}'"
        )
    count = export_bag(source, args.target, load_embodiment(args.embodiment))
    print(f"{count} messages in {args.target}; look at them: ros2 bag info {args.target}")
    return 0


def _checkpoint(args: argparse.Namespace) -> int:
    """Write a checkpoint in another layout, every tensor unchanged, and say the hash."""
    from moxin_vla.policy.moxin.conversion import RECORD, convert_checkpoint
    from moxin_vla.policy.moxin.policy_file import as_source

    done = convert_checkpoint(as_source(args.source), args.target, args.to)
    print(f"{done.tensors} tensors written to {done.target}, read back and found equal")
    print(f"sha256 of all tensors: {done.digest}  (files: {done.target / RECORD})")
    return 0
