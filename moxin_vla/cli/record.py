"""`moxin-vla record`: record episodes from the running nodes into a LeRobotDataset v3, or let the
simulator's expert make them. Ctrl-C ends it; what was recorded is safe.
"""

import argparse
import sys
import threading
import time
from pathlib import Path
from typing import Any

from moxin_vla.core.errors import MoxinVlaError
from moxin_vla.core.resources import resource_path
from moxin_vla.teleop.autopilot import RULES
from moxin_vla.teleop.options import options_text

_SPIN_S = 0.02
_KEYS = "n start, h stop, j success, x failure, z discard, Ctrl-C end"


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Register the command."""
    parser = subparsers.add_parser("record", help="record episodes", description=__doc__)
    parser.add_argument("dataset", type=Path, help="folder: a new dataset, or one to extend")
    parser.add_argument(
        "--instruction", default="", help="what the arm is to do, if no topic says"
    )
    parser.add_argument(
        "--codec",
        default="auto",
        help="how images are stored: auto, png (every pixel), h264 ... (default %(default)s)",
    )
    parser.add_argument(
        "--embodiment", type=Path, default=None, help="default: the simulated SO-101"
    )
    _add_simulation(parser.add_argument_group("simulated episodes, played by themselves"))
    parser.set_defaults(run=run)


def _add_simulation(group: Any) -> None:
    group.add_argument("--sim", action="store_true", help="start the simulator and all nodes")
    group.add_argument(
        "--expert",
        choices=RULES,
        default="always",
        help="when the scripted expert takes over from the policy (default %(default)s)",
    )
    group.add_argument(
        "--policy",
        default="scripted:hold",
        help="what drives until then (default %(default)s)",
    )
    group.add_argument("--families", default="pick", help="comma separated (default %(default)s)")
    group.add_argument("--episodes", type=int, default=10, help="per family (default %(default)s)")
    group.add_argument("--seed", type=int, default=0, help="first scene (default %(default)s)")
    group.add_argument(
        "--after", type=float, default=4.0, metavar="S", help="--expert late: in [s]"
    )


def run(args: argparse.Namespace) -> int:
    """Record; returns the exit code."""
    args.embodiment = args.embodiment or resource_path("config/embodiments/so101_sim.yaml")
    return _record_simulation(args) if args.sim else _record_topics(args)


def _record_simulation(args: argparse.Namespace) -> int:
    """Bring everything up in lockstep, play the scenes, record each."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from moxin_sim import sample_episode
    from moxin_vla.core.embodiment import load_embodiment
    from moxin_vla.ros.bringup import Bringup
    from moxin_vla.ros.episode_client import EpisodeClient
    from moxin_vla.ros.recorded_episodes import RecordedEpisodes
    from moxin_vla.system import SystemConfig

    families = [name.strip() for name in args.families.split(",")]
    seeds = range(args.seed, args.seed + args.episodes)
    specs = [sample_episode(family, seed) for seed in seeds for family in families]
    config = SystemConfig(
        embodiment=args.embodiment,
        policy=args.policy,
        mode="lockstep",
        teleop="" if args.expert == "never" else "autopilot",
        teleop_parameters={}
        if args.expert == "never"
        else {"options": options_text([f"rule={args.expert}", f"after_s={args.after}"])},
        record=str(args.dataset),
        recorder_parameters={"codec": args.codec},
        domain_id=None,
    )
    console, started_s, good, operator, steps, rows = Console(), time.monotonic(), 0, 0, 0, 0
    console.print("Starting the nodes ...")
    with (
        Bringup(config) as system,
        EpisodeClient(load_embodiment(args.embodiment), lambda: _refuse_end(system)) as client,
        Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
        ) as progress,
    ):
        bar = progress.add_task("recording", total=len(specs))
        for done in RecordedEpisodes(client).play(specs):
            good, operator = good + done.success, operator + done.operator_steps
            steps, rows = steps + done.steps, rows + done.rows
            progress.update(bar, advance=1, description=f"{good} successful")
    seconds = time.monotonic() - started_s
    console.print(
        f"{len(specs)} episodes of {rows} rows in {seconds:.0f} s, {good} successful; the expert "
        f"drove in {operator} rows.\nLook at them:    moxin-vla dataset check {args.dataset} "
        f"--html {args.dataset}.html\nLearn from them: moxin-vla train --data {args.dataset}"
    )
    if rows < steps:
        console.print(f"[red]{steps - rows} of {steps} control steps were not recorded.[/]")
    return int(rows < steps)


def _refuse_end(system: Any) -> None:
    if name := system.ended():
        raise MoxinVlaError(f"{name} has ended.\n{system.output(name)[-2000:]}")


def _record_topics(args: argparse.Namespace) -> int:
    """Run recorder_node here, beside a system that is up, with keys if there is a terminal."""
    import rclpy
    from rclpy.signals import SignalHandlerOptions

    from moxin_vla.ros.dds import apply_dds_profile
    from moxin_vla.ros.ending import noted_signals
    from moxin_vla.ros.parameters import as_yaml

    apply_dds_profile(images=True)
    arguments = ["--ros-args"]
    for name, value in {
        "embodiment": str(Path(args.embodiment).resolve()),
        "root": str(args.dataset.resolve()),
        "instruction": args.instruction,
        "codec": args.codec,
    }.items():
        arguments += ["-p", f"{name}:={as_yaml(value)}"]
    with noted_signals() as told:
        rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
        try:
            return _spin(told)
        finally:
            rclpy.try_shutdown()


def _spin(told: threading.Event) -> int:
    """Record until told to end, by a signal or by a key."""
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.lifecycle import TransitionCallbackReturn

    from moxin_vla.cli.record_screen import RecordScreen
    from moxin_vla.nodes.recorder_node import RecorderNode
    from moxin_vla.ros.recorder_calls import RecorderCalls
    from moxin_vla.teleop.base import Mode, OperatorEvent
    from moxin_vla.teleop.keyboard import EventKeys
    from moxin_vla.teleop.terminal import Terminal

    node = RecorderNode()
    keys = EventKeys(Terminal()) if sys.stdin.isatty() else None
    try:
        if node.trigger_configure() is not TransitionCallbackReturn.SUCCESS:
            return 2  # the node has said why
        node.trigger_activate()
        calls = RecorderCalls(node)
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        if keys is not None:
            keys.open()
        with RecordScreen(_KEYS if keys else "services: /recorder_node/start, stop ...") as screen:
            while not told.is_set():
                executor.spin_once(timeout_sec=_SPIN_S)
                for event in keys.poll(Mode.JOINT, time.monotonic_ns()).events if keys else ():
                    calls.forward(event)
                    if event is OperatorEvent.QUIT:  # Ctrl-C, of a terminal that sends it as a key
                        told.set()
                screen.show(node.describe(), calls.answer)
        return 0
    finally:
        if keys is not None:
            keys.close()
        node.destroy_node()
