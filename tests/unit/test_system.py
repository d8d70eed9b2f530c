from pathlib import Path

import pytest

from moxin_vla.core.errors import MoxinVlaError
from moxin_vla.system import SystemConfig, declare_system


def declared(**changes: object) -> dict:
    config = SystemConfig(Path("robot.yaml"), **{"policy": "scripted:hold"} | changes)
    return {node.name: node for node in declare_system(config)}


def test_the_simulator_starts_first_and_control_before_policy() -> None:
    assert list(declared()) == ["sim_node", "control_node", "policy_node"]


def test_only_policy_and_control_are_managed() -> None:
    managed = [name for name, node in declared().items() if node.managed]
    assert managed == ["control_node", "policy_node"]


def test_paths_hold_wherever_a_node_is_started() -> None:
    nodes = declared(policy="checkpoints/nano")
    assert nodes["policy_node"].parameters["policy"] == str(Path("checkpoints/nano").resolve())
    for node in nodes.values():
        assert node.parameters["embodiment"] == str(Path("robot.yaml").resolve())


def test_a_scripted_policy_is_no_path() -> None:
    assert declared()["policy_node"].parameters["policy"] == "scripted:hold"


def test_both_planners_share_the_execution_horizon() -> None:
    nodes = declared(execution_horizon=4)
    horizons = [nodes[n].parameters["execution_horizon"] for n in ("control_node", "policy_node")]
    assert horizons == [4, 4]


@pytest.mark.parametrize("mode", ["realtime", "lockstep"])
def test_simulated_time_is_used_exactly_with_the_simulator(mode: str) -> None:
    for name in ("control_node", "policy_node"):
        assert declared(mode=mode)[name].parameters["use_sim_time"] is True
        assert declared(simulation=False)[name].parameters["use_sim_time"] is False


def test_a_real_robot_is_a_dry_run_unless_told_otherwise() -> None:
    assert declared(simulation=False)["control_node"].parameters["dry_run"] is True


def test_lockstep_reaches_every_node() -> None:
    nodes = declared(mode="lockstep")
    assert nodes["sim_node"].parameters["mode"] == "lockstep"
    assert nodes["control_node"].parameters["lockstep"] is True
    assert nodes["policy_node"].parameters["lossless"] is True


def test_lockstep_with_a_robot_is_refused() -> None:
    with pytest.raises(MoxinVlaError, match="lockstep needs the simulator"):
        declared(mode="lockstep", simulation=False)


def test_joiner_and_delay_reach_both_sides_and_are_no_numbers_to_a_launcher() -> None:
    nodes = declared(mode="lockstep", joiner="gated", delay="2")
    for name in ("control_node", "policy_node"):
        assert nodes[name].parameters["joiner"] == "gated"
        assert nodes[name].parameters["delay"] == "constant:2"
    traced = declared(mode="lockstep", delay="trace:a.json")["policy_node"].parameters["delay"]
    assert traced == f"trace:{Path('a.json').resolve()}"


def test_a_delay_in_realtime_is_refused() -> None:
    with pytest.raises(MoxinVlaError, match="a delay of 4 can be injected in lockstep only"):
        declared(delay="4")


def test_an_unknown_mode_is_refused_with_the_known_ones() -> None:
    with pytest.raises(MoxinVlaError, match=r"'fast'\. Choose from: realtime, lockstep"):
        declared(mode="fast")
