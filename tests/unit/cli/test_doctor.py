"""The doctor never breaks, and says how to mend."""

import json
from types import SimpleNamespace

from moxin_vla.cli import doctor
from moxin_vla.cli.doctor import Finding, guarded


def test_a_check_that_raises_becomes_a_finding():
    def check_the_moon():
        raise OSError("no moon")

    assert guarded(check_the_moon) == [
        Finding("the moon", "fail", "OSError: no moon", "see the message")
    ]


def test_a_missing_extra_comes_with_the_command_that_installs_it():
    finding = doctor._extra("sim", ("numpy", "surely-not-a-package"))
    assert finding.level == "fail"
    assert finding.seen == "missing: surely-not-a-package"
    assert finding.remedy == "pip install 'moxin_vla[sim]'"


def test_failing_sets_the_exit_code(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "CHECKS", (lambda: [Finding("a", "ok", "fine")],))
    assert doctor.run(SimpleNamespace(json=True)) == 0
    monkeypatch.setattr(doctor, "CHECKS", (lambda: [Finding("b", "fail", "bad", "mend it")],))
    capsys.readouterr()
    assert doctor.run(SimpleNamespace(json=True)) == 1
    assert json.loads(capsys.readouterr().out)[0]["remedy"] == "mend it"


def test_names_with_brackets_survive_the_table(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "CHECKS", (lambda: [Finding("extra [sim]", "ok", "fine")],))
    doctor.run(SimpleNamespace(json=False))
    assert "extra [sim]" in capsys.readouterr().out
