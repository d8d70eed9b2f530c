import pytest

from moxin_vla.teleop.autopilot import AutopilotOptions
from moxin_vla.teleop.base import TeleopError
from moxin_vla.teleop.options import checked_options, options_text, read_options


def test_what_the_command_line_says_is_what_the_device_reads():
    text = options_text(["port=/dev/ttyACM0", "use_degrees=true", "far_rad=0.2", "id=a: b"])
    assert read_options(text) == {
        "port": "/dev/ttyACM0",
        "use_degrees": True,
        "far_rad": 0.2,
        "id": "a: b",
    }


def test_no_options_are_no_text():
    assert options_text([]) == "" and read_options("") == {}


@pytest.mark.parametrize("pair", ["port", "=1"])
def test_a_pair_without_key_or_value_is_refused(pair):
    with pytest.raises(TeleopError, match="An option is written KEY=VALUE. Got: '" + pair):
        options_text([pair])


@pytest.mark.parametrize("text", ["[1, 2]", "port"])
def test_what_is_no_mapping_is_refused(text):
    with pytest.raises(TeleopError, match="options of a device are a mapping"):
        read_options(text)


def test_broken_yaml_is_refused():
    with pytest.raises(TeleopError, match="not valid YAML"):
        read_options("{port: ")


def test_an_unknown_option_is_refused_with_the_known_ones():
    expected = "has no option speed. Known: rule, after_s, far_rad, far_s, give_back_after_s"
    with pytest.raises(TeleopError, match=expected):
        checked_options(AutopilotOptions, {"speed": 1}, "autopilot")


@pytest.mark.parametrize(
    ("value", "words"), [("soon", "must be a number. Got: 'soon'"), (True, "must be a number")]
)
def test_an_option_of_another_type_is_refused(value, words):
    with pytest.raises(TeleopError, match=words):
        checked_options(AutopilotOptions, {"after_s": value}, "autopilot")


def test_a_whole_number_is_a_number():
    assert checked_options(AutopilotOptions, {"after_s": 3}, "autopilot").after_s == 3.0
