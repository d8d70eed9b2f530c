"""Injected delays: as written, as recorded, and refused when plans can't follow one another."""

import json

import pytest

from moxin_vla.runtime.delay import DelayError, DelayTrace, check_feasible, parse_delay

STEP = 50_000_000


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("0", (0,)),
        ("4", (4,)),
        ("constant:4", (4,)),
        ("spiky:2:8:4", (2, 2, 2, 8)),
        ("spiky:2:8:1", (8,)),
    ],
)
def test_a_delay_is_read_as_it_is_written(text, steps):
    assert parse_delay(text, STEP) == DelayTrace(text, steps)


def test_a_trace_repeats_and_its_usual_delay_is_the_median():
    trace = DelayTrace("t", (1, 2, 9))
    assert [trace.at(plan) for plan in range(5)] == [1, 2, 9, 1, 2]
    assert trace.usual == 2


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", json.dumps([0.0, 0.05, 0.0501, 0.12])),
        ("b.json", json.dumps({"delay_s": [0.0, 0.05, 0.0501, 0.12]})),
        ("c.csv", "delay_s,other\n0.0,1\n0.05,1\n0.0501,1\n0.12,1\n"),
        ("d.csv", "0.0\n0.05\n0.0501\n0.12\n"),
    ],
)
def test_recorded_seconds_are_rounded_up_to_whole_steps(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert parse_delay(f"trace:{tmp_path / name}", STEP).steps == (0, 1, 2, 3)


@pytest.mark.parametrize("text", ["soon", "spiky:2", "spiky:a:b:c", "trace:", ""])
def test_what_is_no_delay_is_refused_with_the_forms(text):
    with pytest.raises(DelayError) as refused:
        parse_delay(text, STEP)
    assert str(refused.value) == (
        f"Unknown delay '{text}'. Expected: a number of control steps, spiky:USUAL:SPIKE:EVERY, "
        "trace:FILE"
    )


def test_a_negative_delay_is_refused():
    with pytest.raises(DelayError, match=r"none of them negative. Got: \[-1\]"):
        parse_delay("-1", STEP)


def test_a_trace_that_is_not_there_or_no_trace_is_refused(tmp_path):
    with pytest.raises(DelayError, match=r"No delay trace at .*No such file"):
        parse_delay(f"trace:{tmp_path / 'none.json'}", STEP)
    (tmp_path / "odd.json").write_text('{"latency": 3}')
    with pytest.raises(DelayError, match=r"is no delay trace. Expected: a JSON list of seconds"):
        parse_delay(f"trace:{tmp_path / 'odd.json'}", STEP)
    (tmp_path / "back.json").write_text("[-0.1]")
    with pytest.raises(DelayError, match=r"must be finite and not negative. Got: -0.1 s"):
        parse_delay(f"trace:{tmp_path / 'back.json'}", STEP)


def test_d_may_be_at_most_s_and_h_minus_s():
    check_feasible(DelayTrace("8", (8,)), 8, 16)
    check_feasible(DelayTrace("spiky", (2, 2, 30)), 8, 16)  # a spike is played, not planned for
    for d, s, most in ((9, 8, 8), (5, 4, 4), (4, 13, 3)):
        with pytest.raises(DelayError) as refused:
            check_feasible(DelayTrace(str(d), (d,)), s, 16)
        assert str(refused.value) == (
            f"A delay of d = {d} steps needs d <= s <= H - d. Got: s = {s} and H = 16. "
            f"With them d may be at most {most}."
        )
