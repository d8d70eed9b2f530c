"""The command line: clear errors, no tracebacks."""

import pytest

from moxin_vla.cli.main import main


def test_version_is_printed(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0 and capsys.readouterr().out == "moxin-vla 0.1.0\n"


def test_every_verb_explains_itself(capsys):
    for verb in ("demo", "eval", "bringup", "nano", "doctor"):
        with pytest.raises(SystemExit) as ended:
            main([verb, "--help"])
        assert ended.value.code == 0
        assert "usage: moxin-vla" in capsys.readouterr().out


def test_a_missing_policy_is_one_message_and_exit_code_2(capsys):
    assert main(["eval", "no/such/place"]) == 2
    error = capsys.readouterr().err
    assert error == (
        "moxin-vla: There is no policy 'no/such/place'. "
        "Expected: a checkpoint directory, a policy file (.yaml), a Hugging Face id "
        "(owner/name), or one of "
        "scripted:hold, scripted:sweep, scripted:nan\n"
    )


def test_a_missing_embodiment_is_named(capsys, tmp_path):
    missing = tmp_path / "none.yaml"
    assert main(["eval", "scripted:hold", "--embodiment", str(missing)]) == 2
    assert capsys.readouterr().err == f"moxin-vla: No embodiment file at '{missing}'.\n"


def test_an_unknown_family_is_refused_with_the_known_ones(capsys):
    assert main(["eval", "scripted:hold", "--families", "cook"]) == 2
    error = capsys.readouterr().err
    assert "Unknown task family 'cook'. Choose from: touch, pick, place" in error
