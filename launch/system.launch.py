"""The whole system for a ROS install: the declaration of `moxin_vla.system` as launch actions.

ros2 launch moxin_vla system.launch.py policy:=CHECKPOINT [simulation:=false] [dry_run:=false]
"""

from collections.abc import Sequence

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, LifecycleTransition, Node
from lifecycle_msgs.msg import Transition

from launch import Action, LaunchContext, LaunchDescription
from moxin_vla.core.resources import resource_path
from moxin_vla.system import MODES, NodeDeclaration, SystemConfig, declare_system

ARGUMENTS = (
    DeclareLaunchArgument(
        "policy",
        default_value=str(resource_path("checkpoints/moxin-nano-so101")),
        description="checkpoint directory, or scripted:NAME",
    ),
    DeclareLaunchArgument(
        "embodiment",
        default_value=str(resource_path("config/embodiments/so101_sim.yaml")),
        description="embodiment file",
    ),
    DeclareLaunchArgument(
        "mode", default_value="realtime", choices=list(MODES), description="how the simulator runs"
    ),
    DeclareLaunchArgument(
        "simulation",
        default_value="true",
        choices=["true", "false"],
        description="start sim_node; false for a robot whose driver publishes the topics",
    ),
    DeclareLaunchArgument(
        "dry_run",
        default_value="true",
        choices=["true", "false"],
        description="on a real robot: publish commands on ~/dry_run instead",
    ),
    DeclareLaunchArgument(
        "execution_horizon", default_value="8", description="control steps between plans"
    ),
    DeclareLaunchArgument("device", default_value="cpu", description="torch device of the policy"),
    DeclareLaunchArgument(
        "self_test",
        default_value="true",
        choices=["true", "false"],
        description="false lets a policy act that was not tested at start-up",
    ),
    DeclareLaunchArgument(
        "vlm",
        default_value="",
        description="vision-language model that answers questions beside the policy",
    ),
    DeclareLaunchArgument(
        "teleop",
        default_value="",
        description="what an operator drives with: gamepad, joy, lerobot:TYPE or autopilot",
    ),
    DeclareLaunchArgument(
        "record",
        default_value="",
        description="LeRobotDataset v3 to record into, by /recorder_node/start and stop",
    ),
)


def _node(declaration: NodeDeclaration) -> Node:
    common = {
        "package": "moxin_vla",
        "executable": declaration.name,
        "name": declaration.name,
        "parameters": [declaration.parameters],
        "output": "screen",
        "sigterm_timeout": str(declaration.ends_within_s),
    }
    if declaration.managed:
        return LifecycleNode(namespace="", **common)
    return Node(**common)


def _activate(declarations: Sequence[NodeDeclaration]) -> LifecycleTransition:
    return LifecycleTransition(
        lifecycle_node_names=[d.name for d in declarations if d.managed],
        transition_ids=[Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE],
    )


def _start(context: LaunchContext) -> list[Action]:
    value = {a.name: LaunchConfiguration(a.name).perform(context) for a in ARGUMENTS}
    config = SystemConfig(
        embodiment=value["embodiment"],
        policy=value["policy"],
        mode=value["mode"],
        execution_horizon=int(value["execution_horizon"]),
        simulation=value["simulation"] == "true",
        dry_run=value["dry_run"] == "true",
        device=value["device"],
        self_test=value["self_test"] == "true",
        vlm=value["vlm"],
        teleop=value["teleop"],
        record=value["record"],
    )
    declarations = declare_system(config)
    return [*map(_node, declarations), _activate(declarations)]


def generate_launch_description() -> LaunchDescription:
    """Return every node of the system; managed ones are configured and activated."""
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=_start)])
