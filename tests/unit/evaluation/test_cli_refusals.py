"""`moxin-vla eval` refuses in one message, before anything runs."""

import sys

import pytest

from moxin_vla.cli import evaluate
from moxin_vla.cli.main import main
from moxin_vla.runtime import joiners


def refusal(capsys, *arguments: str) -> str:
    assert main(["eval", *arguments]) == 2
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err and captured.out == ""
    return captured.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--episodes", "0"], "episodes must be at least 1. Got: 0"),
        (["--first-seed", "-1"], "first seed must be at least 0. Got: -1"),
        (
            ["--execution-horizon", "17"],
            "Policy 'scripted:hold' predicts H = 16 steps; the execution horizon must not be "
            "larger. Got: s = 17",
        ),
        (
            ["--over", "ros", "--workers", "2"],
            "Over ROS one system plays one episode at a time. Got: 2 workers. Expected: 1",
        ),
        (
            ["--delay", "4,9"],
            "A delay of d = 9 steps needs d <= s <= H - d. Got: s = 8 and H = 16. "
            "With them d may be at most 8.",
        ),
        (
            ["--delay", "soon"],
            "Unknown delay 'soon'. Expected: a number of control steps, spiky:USUAL:SPIKE:EVERY, "
            "trace:FILE",
        ),
        (
            ["--joiner", "naive,magic"],
            "Unknown joiner 'magic'. Choose from: synchronous, naive, decay_blend, "
            "temporal_ensemble, gated, state_roll, prefix",
        ),
        (
            ["--delay", "2", "--listening"],
            "--listening goes with neither --delay nor --joiner.",
        ),
    ],
)
def test_a_wrong_number_is_one_message(capsys, arguments, message):
    assert refusal(capsys, "scripted:hold", *arguments) == f"moxin-vla: {message}\n"


def test_the_help_names_what_there_is():
    assert evaluate.JOINERS == joiners.JOINERS
    assert evaluate.FAMILIES == pytest.importorskip("moxin_sim").FAMILIES


def test_the_expert_over_ros_is_refused_before_a_node_starts(capsys):
    assert refusal(capsys, "expert", "--over", "ros").startswith(
        "moxin-vla: The expert reads the simulator's own state, which no topic carries."
    )


def test_a_report_folder_that_cannot_be_made_is_found_out_first(capsys, tmp_path):
    pytest.importorskip("moxin_sim")
    taken = tmp_path / "file"
    taken.write_text("")
    assert refusal(capsys, "scripted:hold", "--out", str(taken)) == (
        f"moxin-vla: The report can't be written to '{taken}': File exists. "
        "Choose another --out.\n"
    )


def test_a_missing_package_comes_with_the_extra_that_brings_it(capsys, monkeypatch):
    def run(args):
        raise ModuleNotFoundError("No module named 'mujoco'", name="mujoco")

    monkeypatch.setattr(evaluate, "run", run)
    assert refusal(capsys, "scripted:hold") == (
        "moxin-vla: mujoco is not installed. Install it with: pip install 'moxin_vla[sim]'\n"
    )


def test_a_missing_module_of_our_own_is_a_bug_and_stays_one(monkeypatch):
    def run(args):
        raise ModuleNotFoundError("No module named 'moxin_vla.nope'", name="moxin_vla.nope")

    monkeypatch.setattr(evaluate, "run", run)
    with pytest.raises(ModuleNotFoundError):
        main(["eval", "scripted:hold"])


def test_debug_adds_the_traceback(capsys):
    assert main(["--debug", "eval", "scripted:hold", "--episodes", "0"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("Traceback") and error.endswith("must be at least 1. Got: 0\n")


def test_the_command_line_starts_without_heavy_packages():
    import subprocess

    code = (
        "import sys; from moxin_vla.cli.main import build_parser; build_parser(); "
        "print([m for m in ('torch', 'rclpy', 'mujoco', 'rich', 'cv2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
