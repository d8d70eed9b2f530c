"""The system, declared once: which nodes, with which parameters. Launch files and `moxin-vla
bringup` both read it.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moxin_vla.core.errors import MoxinVlaError, listed
from moxin_vla.policy.sources import may_be_hub_id
from moxin_vla.runtime.delay import NO_DELAY
from moxin_vla.runtime.joiners import DEFAULT_JOINER

MODES = ("realtime", "lockstep")
_WRITES_WITHIN_S = 600.0  # to be killed while it writes would cost the running episode


@dataclass(frozen=True, slots=True)
class SystemConfig:
    """What a user decides.

    Attributes:
        embodiment: Embodiment file.
        policy: Checkpoint directory, or `scripted:NAME`.
        mode: `realtime`, or `lockstep` (simulation only, deterministic).
        execution_horizon: Control steps s between plans.
        joiner: How a new chunk joins the plan.
        delay: Inference delay to inject, as `parse_delay` reads it; lockstep only.
        simulation: Start sim_node; False for a robot whose driver publishes the topics.
        dry_run: On a real robot, publish commands on `~/dry_run` instead of `~/command`.
        device: Torch device of the policy.
        self_test: False to let a policy act that was not tested at start-up.
        teleop: Device an operator drives with, as `make_device` names it; empty for none. The
            `autopilot` needs the simulator, `keyboard` a terminal (see `moxin-vla teleop`).
        record: Folder of the dataset to record into; empty to record nothing.
        vlm: A vision-language model that answers questions beside the policy; empty for none.
        domain_id: A ROS domain of its own on this machine; None keeps the user's.
        simulation_parameters: More parameters of sim_node, such as `family` and `seed`.
        recorder_parameters: More parameters of recorder_node, such as `instruction` and `codec`.
        teleop_parameters: More parameters of teleop_node, such as `options` and `mode`.
    """

    embodiment: Path
    policy: str
    mode: str = "realtime"
    execution_horizon: int = 8
    joiner: str = DEFAULT_JOINER
    delay: str = NO_DELAY.name
    simulation: bool = True
    dry_run: bool = True
    device: str = "cpu"
    self_test: bool = True
    vlm: str = ""
    teleop: str = ""
    record: str = ""
    domain_id: int | None = None
    simulation_parameters: dict[str, Any] = field(default_factory=dict)
    teleop_parameters: dict[str, Any] = field(default_factory=dict)
    recorder_parameters: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise MoxinVlaError(f"Unknown mode '{self.mode}'. Choose from: {listed(MODES)}")
        if self.mode == "lockstep" and not self.simulation:
            raise MoxinVlaError("A robot does not wait: lockstep needs the simulator.")
        if self.teleop == "autopilot" and not self.simulation:
            raise MoxinVlaError("The autopilot is the simulator's expert: it needs the simulator.")
        if self.mode == "realtime" and self.delay != NO_DELAY.name:
            raise MoxinVlaError(
                f"In realtime inference takes the time it takes; a delay of {self.delay} can be "
                "injected in lockstep only."
            )


@dataclass(frozen=True, slots=True)
class NodeDeclaration:
    """One process.

    Attributes:
        name: Node name; also its executable and its module in `moxin_vla.nodes`.
        parameters: ROS parameters.
        managed: True if it is a lifecycle node, to be configured and activated in the order of
            declaration.
        ends_within_s: How long it may take to end before it is killed, in [s].
    """

    name: str
    parameters: dict[str, Any]
    managed: bool
    ends_within_s: float = 5.0


def declare_system(config: SystemConfig) -> tuple[NodeDeclaration, ...]:
    """Return the system's nodes, in the order in which they start."""
    lockstep = config.mode == "lockstep"
    embodiment = str(Path(config.embodiment).resolve())
    shared = {
        "embodiment": embodiment,
        "execution_horizon": config.execution_horizon,
        "joiner": config.joiner,
        "delay": _as_parameter(config.delay),
        "use_sim_time": config.simulation,
    }
    nodes = [
        NodeDeclaration(
            "control_node",
            {
                **shared,
                "lockstep": lockstep,
                "dry_run": config.dry_run,
                "await_operator": lockstep and bool(config.teleop),
            },
            managed=True,
        ),
        NodeDeclaration(
            "policy_node",
            {
                **shared,
                "policy": _absolute(config.policy),
                "device": config.device,
                "self_test": config.self_test,
                "lossless": lockstep,
            },
            managed=True,
        ),
    ]
    if config.teleop:
        operator = {
            "embodiment": embodiment,
            "device": config.teleop,
            "lockstep": lockstep,
            "use_sim_time": config.simulation,
            **config.teleop_parameters,
        }
        nodes.append(NodeDeclaration("teleop_node", operator, managed=True))
    if config.record:
        recording = {"embodiment": embodiment, "root": str(Path(config.record).resolve())}
        recording |= {
            "lockstep": lockstep,
            "use_sim_time": config.simulation,
            **config.recorder_parameters,
        }
        nodes.append(NodeDeclaration("recorder_node", recording, True, _WRITES_WITHIN_S))
    if config.vlm:
        asked = {"embodiment": embodiment, "vlm": _absolute(config.vlm), "device": config.device}
        nodes.append(NodeDeclaration("vlm_node", asked, managed=True))
    if config.simulation:
        simulation = {
            "embodiment": embodiment,
            "mode": config.mode,
            "expert": config.teleop == "autopilot",
            **config.simulation_parameters,
        }
        nodes.insert(0, NodeDeclaration("sim_node", simulation, managed=False))
    return tuple(nodes)


def _as_parameter(delay: str) -> str:
    """Write a delay so that no launcher takes it for a number, and with an absolute path."""
    kind, colon, path = delay.partition(":")
    if kind == "trace":
        return f"trace:{Path(path).resolve()}"
    return delay if colon else f"constant:{delay}"


def _absolute(source: str) -> str:
    """Make a path independent of the folder that a node starts in; names of other things stay."""
    return source if ":" in source or may_be_hub_id(source) else str(Path(source).resolve())
