"""`moxin-vla teleop`: drive the arm with a keyboard, a gamepad or a leader arm; take over from a
running policy and give back. Ctrl-C ends it.
"""

import argparse
import contextlib
import json
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from moxin_vla.core.errors import MoxinVlaError
from moxin_vla.core.resources import resource_path
from moxin_vla.teleop.base import Mode, OperatorEvent, TeleopError
from moxin_vla.teleop.devices import DEVICES
from moxin_vla.teleop.options import options_text, read_options

if TYPE_CHECKING:
    from moxin_vla.ros.episode_client import EpisodeClient

_SPIN_S = 0.02
_PATIENT_STEPS = 12_000  # ten minutes at 20 Hz: a person needs longer than a policy


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Register the command."""
    parser = subparsers.add_parser("teleop", help="drive the arm yourself", description=__doc__)
    parser.add_argument(
        "--device",
        default="keyboard",
        help=f"one of {', '.join(DEVICES)} (default %(default)s)",
    )
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="option of the device, such as port=/dev/ttyACM0; may be repeated",
    )
    parser.add_argument("--options", type=Path, help="YAML file with options of the device")
    parser.add_argument(
        "--mode", choices=[mode.value for mode in Mode], default="", help="what the axes move"
    )
    parser.add_argument(
        "--speed", type=float, default=0.5, help="share of full speed (default %(default)s)"
    )
    parser.add_argument(
        "--give-back-after",
        type=float,
        default=30.0,
        metavar="S",
        help="give control back when the dead-man was released so long; 0 never "
        "(default %(default)s)",
    )
    parser.add_argument(
        "--embodiment", type=Path, default=None, help="default: the simulated SO-101"
    )
    parser.add_argument(
        "--robot-model", default="", help="MJCF or URDF for the ee mode (default: the SO-101's)"
    )
    parser.add_argument("--end-effector", default="", help="its site or body")
    _add_simulation(parser.add_argument_group("with a simulator of its own"))
    parser.set_defaults(run=run)


def _add_simulation(group: Any) -> None:
    group.add_argument(
        "--sim", action="store_true", help="start the simulator and the other nodes, too"
    )
    group.add_argument(
        "--policy",
        default="scripted:hold",
        help="what drives until you take over (default %(default)s)",
    )
    group.add_argument("--family", default="pick", help="task family (default %(default)s)")
    group.add_argument("--seed", type=int, default=0, help="first scene (default %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Drive until Ctrl-C; returns the exit code."""
    import rclpy
    from rclpy.signals import SignalHandlerOptions

    from moxin_vla.ros.dds import apply_dds_profile

    parameters = _parameters(args)
    apply_dds_profile()
    arguments = ["--ros-args", "--disable-stdout-logs"]  # a log line would tear the picture
    for name, value in parameters.items():
        arguments += ["-p", f"{name}:={json.dumps(value)}"]
    rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    former = signal.signal(signal.SIGTERM, _end)
    try:
        return _operate(args)
    except KeyboardInterrupt:
        return 0
    finally:
        signal.signal(signal.SIGTERM, former)
        rclpy.try_shutdown()


def _parameters(args: argparse.Namespace) -> dict[str, Any]:
    """Return teleop_node's parameters."""
    embodiment = args.embodiment or resource_path("config/embodiments/so101_sim.yaml")
    return {
        "embodiment": str(Path(embodiment).resolve()),
        "device": args.device,
        "options": _options(args.options, args.option),
        "event_keys": sys.stdin.isatty(),
        "mode": args.mode,
        "speed": float(args.speed),
        "give_back_after_s": float(args.give_back_after),
        "robot_model": args.robot_model,
        "end_effector": args.end_effector,
        "use_sim_time": bool(args.sim or args.device == "autopilot"),
    }


def _options(file: Path | None, pairs: Sequence[str]) -> str:
    """Return the options of a file, then those of the command line, as YAML text."""
    given: dict[str, Any] = {}
    if file is not None:
        try:
            given = read_options(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise TeleopError(f"No options file at '{file}': {error.strerror}.") from None
    given |= read_options(options_text(pairs))
    return options_text([f"{k}={yaml.safe_dump(v).splitlines()[0]}" for k, v in given.items()])


def _operate(args: argparse.Namespace) -> int:
    """Open the device, start what else is asked for, and drive."""
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.lifecycle import TransitionCallbackReturn

    from moxin_vla.cli.teleop_screen import Screen
    from moxin_vla.nodes.teleop_node import TeleopNode

    node = TeleopNode()
    try:
        if node.trigger_configure() is not TransitionCallbackReturn.SUCCESS:
            return 2  # the node has said why
        with _system(args) as simulation:
            node.trigger_activate()
            executor = SingleThreadedExecutor()
            executor.add_node(node)
            try:
                with Screen() as screen:
                    while True:
                        executor.spin_once(timeout_sec=_SPIN_S)
                        started = OperatorEvent.START in node.take_events()
                        note = simulation.turn(started) if simulation else ""
                        screen.show(node.view(), note)
            finally:
                node.trigger_deactivate()
                executor.shutdown()
    finally:
        node.destroy_node()


@contextlib.contextmanager
def _system(args: argparse.Namespace) -> Iterator["Simulation | None"]:
    """Start the simulator, control and policy if asked to; yields what plays the episodes."""
    if not args.sim:
        yield None
        return
    from moxin_vla.core.embodiment import load_embodiment
    from moxin_vla.ros.bringup import Bringup
    from moxin_vla.ros.episode_client import EpisodeClient
    from moxin_vla.system import SystemConfig

    path = args.embodiment or resource_path("config/embodiments/so101_sim.yaml")
    config = SystemConfig(
        embodiment=path,
        policy=args.policy,
        simulation_parameters={
            "family": args.family,
            "seed": args.seed,
            "horizon_steps": _PATIENT_STEPS,
            "expert": args.device == "autopilot",
        },
    )
    print("Starting the simulator ...", flush=True)
    with Bringup(config) as system, EpisodeClient(load_embodiment(path)) as client:
        simulation = Simulation(client, system.ended, args.family, args.seed)
        simulation.begin()
        yield simulation


class Simulation:
    """Plays one scene after the other: the next one at the operator's wish.

    Args:
        client: Of the running system.
        ended: Names a node that no longer runs.
        family: Task family.
        seed: First scene.
    """

    def __init__(self, client: "EpisodeClient", ended: Any, family: str, seed: int) -> None:
        self._client, self._ended, self._family, self._seed = client, ended, family, seed

    def begin(self) -> None:
        """Set up the scene of the present seed and let time run."""
        from moxin_sim import sample_episode

        spec = sample_episode(self._family, self._seed)
        self._client.begin(spec)
        self._client.recorder.stop()  # nobody reads it
        self._seed += 1

    def turn(self, another: bool) -> str:
        """Begin another scene if asked to; return how the present one stands, in words.

        Raises:
            MoxinVlaError: A node has ended.
        """
        if name := self._ended():
            raise MoxinVlaError(f"{name} has ended.")
        if another:
            self.begin()
        self._client.spin_once(0.0)
        report = self._client.recorder.report
        if report is None:
            return ""
        status, told = report.status, f"'{report.spec.instruction}'"
        if status.success:
            return f"{told}: done. n begins the next scene."
        if status.failure:
            return f"{told}: failed ({status.failure}). n begins the next scene."
        return told if not status.done else f"{told}: time is up. n begins the next scene."


def _end(number: int, frame: object) -> None:
    raise KeyboardInterrupt
