"""`moxin-vla bringup`: start the nodes as processes of this machine, without a ROS install; Ctrl-C
ends them.
"""

import argparse
import time
from pathlib import Path

from moxin_vla.core.resources import resource_path


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Register the command."""
    parser = subparsers.add_parser("bringup", help="start the ROS 2 nodes", description=__doc__)
    parser.add_argument("policy", help="checkpoint directory, or `scripted:NAME`")
    parser.add_argument(
        "--embodiment", type=Path, default=None, help="default: the simulated SO-101"
    )
    parser.add_argument("--mode", choices=("realtime", "lockstep"), default="realtime")
    parser.add_argument("--execution-horizon", type=int, default=8, help="default %(default)s")
    parser.add_argument(
        "--no-sim", action="store_true", help="the robot's own driver publishes the topics"
    )
    parser.add_argument(
        "--move",
        action="store_true",
        help="on a real robot: publish commands; without it a dry run",
    )
    parser.add_argument(
        "--device", default="cpu", help="torch device of the policy (default %(default)s)"
    )
    parser.add_argument(
        "--no-self-test",
        action="store_true",
        help="let a policy act that was not tested at start-up",
    )
    parser.add_argument(
        "--vlm", default="", help="vision-language model that answers questions beside the policy"
    )
    parser.add_argument(
        "--teleop",
        default="",
        metavar="DEVICE",
        help="let an operator drive: gamepad, joy, lerobot:TYPE or autopilot; "
        "for the keyboard use `moxin-vla teleop`",
    )
    parser.add_argument(
        "--record",
        default="",
        metavar="DATASET",
        help="record into this LeRobotDataset v3, by /recorder_node/start and stop",
    )
    parser.add_argument(
        "--family", default="pick", help="first simulated episode (default %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="its seed (default %(default)s)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Start, wait, end; returns the exit code."""
    from moxin_vla.ros.bringup import Bringup
    from moxin_vla.system import SystemConfig

    config = SystemConfig(
        embodiment=args.embodiment or resource_path("config/embodiments/so101_sim.yaml"),
        policy=args.policy,
        mode=args.mode,
        execution_horizon=args.execution_horizon,
        simulation=not args.no_sim,
        dry_run=not args.move,
        device=args.device,
        self_test=not args.no_self_test,
        vlm=args.vlm,
        teleop=args.teleop,
        record=args.record,
        simulation_parameters={"family": args.family, "seed": args.seed}
        if not args.no_sim
        else {},
    )
    with Bringup(config, passthrough=True) as system:
        print("All nodes are active. Ctrl-C ends them.", flush=True)
        if config.simulation:
            print(
                "The simulator is paused; start it with the service /sim_node/pause "
                "(std_srvs/SetBool, data: false) "
                "and say what to do on /policy_node/instruction (std_msgs/String).",
                flush=True,
            )
        while not (name := system.ended()):
            if system.told_to_end:
                return 130
            time.sleep(0.2)
        print(f"{name} ended; ending the others.", flush=True)
        return 1
