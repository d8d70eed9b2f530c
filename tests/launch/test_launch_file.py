"""The launch file starts exactly the declared system.

The Python wheels of ROS carry no `launch`; stand-ins with the same call signatures record what the
file asks for.
"""

import importlib.util
import sys
import types
from pathlib import Path

import pytest

from moxin_vla.system import SystemConfig, declare_system

FILE = Path(__file__).resolve().parents[2] / "launch" / "system.launch.py"


class Recorded:
    def __init__(self, *args, **kwargs):
        self.args, self.kwargs = args, kwargs
        self.name = args[0] if args and isinstance(args[0], str) else kwargs.get("name")

    def perform(self, context):
        return context[self.name]


class Node(Recorded):
    pass


class LifecycleNode(Node):
    pass


@pytest.fixture
def launch_file(monkeypatch):
    stand_ins = {
        "launch": {"LaunchDescription": list, "LaunchContext": dict, "Action": Recorded},
        "launch.actions": dict.fromkeys(("DeclareLaunchArgument", "OpaqueFunction"), Recorded),
        "launch.substitutions": {"LaunchConfiguration": Recorded},
        "launch_ros": {},
        "launch_ros.actions": {
            "Node": Node,
            "LifecycleNode": LifecycleNode,
            "LifecycleTransition": Recorded,
        },
    }
    for name, contents in stand_ins.items():
        module = types.ModuleType(name)
        vars(module).update(contents)
        monkeypatch.setitem(sys.modules, name, module)
    spec = importlib.util.spec_from_file_location("system_launch", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def nodes(launch_file, **chosen):
    actions = launch_file.generate_launch_description()
    start = next(a.kwargs["function"] for a in actions if "function" in a.kwargs)
    context = {a.name: a.kwargs["default_value"] for a in launch_file.ARGUMENTS} | chosen
    return start(context), context


def test_it_starts_the_declared_nodes_with_their_parameters(launch_file):
    (*started, transition), context = nodes(launch_file)
    config = SystemConfig(context["embodiment"], context["policy"])
    assert [n.kwargs["executable"] for n in started] == ["sim_node", "control_node", "policy_node"]
    assert transition.kwargs["lifecycle_node_names"] == ["control_node", "policy_node"]
    for node, declared in zip(started, declare_system(config), strict=True):
        assert node.kwargs["parameters"] == [declared.parameters]
        assert isinstance(node, LifecycleNode) == declared.managed


def test_without_simulation_there_is_no_simulator_and_no_simulated_time(launch_file):
    (*started, _), _ = nodes(launch_file, simulation="false")
    assert [n.kwargs["executable"] for n in started] == ["control_node", "policy_node"]
    assert started[0].kwargs["parameters"][0]["use_sim_time"] is False
    assert started[0].kwargs["parameters"][0]["dry_run"] is True


def test_every_argument_is_described(launch_file):
    assert all(a.kwargs["description"] for a in launch_file.ARGUMENTS)


def test_a_recorder_that_still_writes_is_not_killed_as_soon_as_the_others(launch_file):
    (*started, _), _ = nodes(launch_file, record="somewhere")
    patience = {n.name: float(n.kwargs["sigterm_timeout"]) for n in started}
    assert patience.pop("recorder_node") == 600.0
    assert set(patience.values()) == {5.0}
