"""Devices of LeRobot: stand-ins for hardware, made by LeRobot's own registry and factory."""

import sys
from dataclasses import dataclass
from importlib.util import find_spec
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

pytest.importorskip("lerobot", reason="needs lerobot: pip install 'moxin_vla[data]'")

from lerobot.motors import MotorNormMode
from lerobot.teleoperators import Teleoperator, TeleoperatorConfig, TeleopEvents

from moxin_vla.core.errors import DependencyError
from moxin_vla.teleop.base import Mode, OperatorEvent, TeleopError
from moxin_vla.teleop.devices import make_device
from tests.recording.episodes import ROBOT

LEADER, PAD, SO101 = "lerobot:moxin_test_leader", "lerobot:moxin_test_pad", "lerobot:so101_leader"
PORT, LOWER, UPPER = {"port": "/dev/null"}, ROBOT.position_lower, ROBOT.position_upper
PLUGIN = "lerobot_teleoperator_moxin_test"  # the package where LeRobot's factory looks for them


@TeleoperatorConfig.register_subclass("moxin_test_leader")
@dataclass(kw_only=True)
class LeaderConfig(TeleoperatorConfig):
    __module__ = f"{PLUGIN}.config"
    port: str = "there"
    use_degrees: bool | None = True
    lacks: str = ""


@TeleoperatorConfig.register_subclass("moxin_test_pad")
class PadConfig(TeleoperatorConfig):
    __module__ = f"{PLUGIN}.config"


class Leader(Teleoperator):
    name, feedback_features, is_connected, is_calibrated = "moxin_test", {}, False, True
    newest: ClassVar[Teleoperator]
    action: ClassVar[dict] = {}
    gone, disconnected = False, 0

    def __init__(self, config):
        super().__init__(config)
        self.config, Leader.newest = config, self

    @property
    def action_features(self):
        return {f"{n}.pos": float for n in ROBOT.joint_names[::-1] if n != self.config.lacks}

    def connect(self, calibrate=True):
        if calibrate or self.config.port != "there":
            raise ConnectionError(f"nobody at {self.config.port}")
        self.is_connected = True

    def disconnect(self):
        self.is_connected, self.disconnected = False, self.disconnected + 1
        self.get_action()

    def get_action(self):
        if self.gone:
            raise OSError("it is gone")
        return self.action

    calibrate = configure = send_feedback = NotImplemented


class Pad(Leader):  # as LeRobot's own: features below `names`, a `connect` without arguments
    action_features: ClassVar[dict] = {"names": {"delta_x": 0, "delta_y": 1, "delta_z": 2}}
    action: ClassVar[dict] = dict.fromkeys(action_features["names"], 0.0)

    def connect(self):
        self.is_connected = True


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, PLUGIN, SimpleNamespace(Leader=Leader, Pad=Pad))
    monkeypatch.setattr("lerobot.teleoperators.teleoperator.HF_LEROBOT_CALIBRATION", tmp_path)


@pytest.fixture
def servos(monkeypatch):
    """Put servos at 30 degrees or 100 percent behind LeRobot's leader of the SO-101."""

    def bus(port, motors, calibration):
        norms = {name: motor.norm_mode for name, motor in motors.items()}
        said = {n: 30.0 if norm is MotorNormMode.DEGREES else 100.0 for n, norm in norms.items()}
        return SimpleNamespace(motors=motors, is_connected=True, sync_read=lambda *_, **__: said)

    monkeypatch.setattr("lerobot.teleoperators.so_leader.so_leader.FeetechMotorsBus", bus)


def made(name=LEADER, **options):
    return make_device(name, ROBOT, options), Leader.newest


def target(options, *said):
    device, arm = made(**options)
    arm.action = {f"{n}.pos": v for n, v in zip(ROBOT.joint_names, said, strict=True)}
    return device.poll(Mode.JOINT, 0).target


def pad_input(events=(), **action):
    device, pad = made(PAD)
    device.open()
    pad.action, pad.get_teleop_events = Pad.action | action, lambda: dict(events)
    return device.poll(Mode.END_EFFECTOR, 0)


@pytest.mark.parametrize(
    ("options", "said", "expected"),
    [
        ({"use_degrees": True}, (180, -90, 50), (np.pi, -np.pi / 2, 0.45)),
        ({"use_degrees": False}, (100, -100, 50), (UPPER[0], LOWER[1], 0.45)),
        ({"use_degrees": False, "units": "degrees"}, (90, 0, 130), (np.pi / 2, 0, 1.0)),
        ({"units": "radians"}, (0.3, -0.2, 0.4), (0.3, -0.2, 0.4)),
    ],
    ids=str,
)
def test_targets_are_in_radians_whatever_the_leader_says(options, said, expected):
    found = target(options, *said[:2], 0, 0, 0, said[2])
    assert found == pytest.approx([*expected[:2], 0, 0, 0, expected[2]], abs=1e-9)


@pytest.mark.parametrize("units", ["degrees", "radians", "percent"])
@pytest.mark.parametrize("joint", ["wrist_roll", "gripper"])
def test_a_joint_can_be_turned_round_and_shifted(joint, units):
    said, index = (1, 2, 3, 4, 5, 6), ROBOT.joint_names.index(joint)
    expected = target({"units": units}, *said)
    expected[index] = 0.5 - expected[index]
    options = {"units": units, f"scale.{joint}": -1, f"offset.{joint}": 0.5}
    assert target(options, *said) == pytest.approx(expected)


@pytest.mark.parametrize("use_degrees", [True, False])
def test_the_stock_leader_fits_the_stock_arm_which_goes_to_it_slowly(servos, use_degrees):
    device = make_device(SO101, ROBOT, PORT | {"use_degrees": use_degrees})
    assert device.aligns and not device.has_dead_man and device.modes == ()
    wanted = device.poll(Mode.JOINT, 0)
    arm = np.full(5, np.deg2rad(30.0)) if use_degrees else UPPER[:5]
    assert wanted.held and wanted.target == pytest.approx([*arm, ROBOT.gripper.open])


def test_the_folder_of_calibrations_can_be_chosen(servos, tmp_path):
    make_device(SO101, ROBOT, PORT | {"calibration_dir": str(tmp_path / "mine")})
    assert (tmp_path / "mine").is_dir()


@pytest.mark.skipif(find_spec("scservo_sdk") is not None, reason="the driver is here")
def test_a_missing_driver_is_named_with_how_to_install_it():
    with pytest.raises(DependencyError, match=r"needs more: 'feetech-servo-sdk'.*pip install"):
        make_device(SO101, ROBOT, PORT)


@pytest.mark.skipif(find_spec("hebi") is not None, reason="the driver is here")
def test_so_is_one_that_lerobots_factory_missed(monkeypatch):
    with pytest.raises(DependencyError, match="lerobot:phone needs more: "):
        make_device("lerobot:phone", ROBOT, {})


def test_a_missing_lerobot_is_named_with_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "lerobot.teleoperators", None)
    with pytest.raises(DependencyError, match=r"is missing.*: pip install 'moxin_vla\[data\]'"):
        make_device(SO101, ROBOT, PORT)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("lerobot:so102_leader", {}, "no teleoperator 'so102_leader'.*gamepad.*so101_leader"),
        (LEADER, {"prt": 1}, r"no option prt\. Known: .*port.*units, scale\.<joint>, offset"),
        (LEADER, {"use_degrees": None}, "Say in which units .* of degrees, radians, percent"),
        (LEADER, {"units": "deg"}, r"Unknown units 'deg'\. Choose from: degrees, radians, perc"),
        (LEADER, {"scale.thumb": 1}, r"no joint for scale\.thumb\. Joints: shoulder_pan, "),
        (LEADER, {"offset.gripper": "x"}, r"offset\.<joint> must be a number.*'x'"),
        (LEADER, {"lacks": "elbow_flex"}, r"no elbow_flex\.\n.*found in its action.*\n.*expected"),
        (PAD, {"units": "degrees"}, "units are for leader arms; 'moxin_test_pad' is none"),
        (SO101, {}, "so101_leader refuses its options: .*missing.*'port'"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(name, options, words):
    with pytest.raises(TeleopError, match=rf"(?s){words}"):
        make_device(name, ROBOT, options)


@pytest.mark.parametrize(
    ("port", "calibrated", "words"),
    [
        ("nowhere", True, "can't be connected: ConnectionError: nobody at nowhere"),
        ("there", False, r"not calibrated\..*`lerobot-calibrate --teleop\.type=moxin_test_leader"),
    ],
)
def test_a_leader_that_is_not_usable_is_let_go_and_nobody_is_asked(port, calibrated, words):
    device, arm = made(port=port)
    arm.is_calibrated = calibrated
    with pytest.raises(TeleopError, match=words):
        device.open()
    assert not arm.is_connected


def test_an_unplugged_leader_can_not_be_read_but_closed_twice():
    device, arm = made()
    device.open()
    arm.gone = True
    with pytest.raises(TeleopError, match="can't be read: OSError: it is gone"):
        device.poll(Mode.JOINT, 0)
    device.close()
    device.close()
    assert arm.disconnected == 1


@pytest.mark.parametrize("name", [LEADER, PAD])
def test_a_reading_without_what_was_promised_is_an_error(name):
    device, stand_in = made(name)
    stand_in.action = {"battery": 0.5}
    with pytest.raises(TeleopError, match="can't be read"):
        device.poll(Mode.JOINT, 0)


def test_a_pad_moves_the_end_effector_and_the_gripper():
    device, wanted = made(PAD)[0], pad_input(delta_x=1.0, delta_y=-0.5)
    assert not device.aligns and device.has_dead_man and device.modes == (Mode.END_EFFECTOR,)
    assert wanted.twist.tolist() == [1.0, -0.5, 0.0, 0.0, 0.0, 0.0] and wanted.gripper == 0.0
    assert [pad_input(gripper=said).gripper for said in (0, 1, 2)] == [-1.0, 0.0, 1.0]


def test_its_intervention_is_the_dead_man_or_else_that_it_moves():
    for told in (TeleopEvents.IS_INTERVENTION, "is_intervention"):
        assert pad_input({told: True}).held
        assert not pad_input({told: False}, delta_x=1.0, gripper=0).held
    assert pad_input(delta_z=0.1).held and pad_input(gripper=0).held and not pad_input().held


@pytest.mark.parametrize(
    ("told", "event"),
    [
        ("success", OperatorEvent.SUCCESS),
        ("failure", OperatorEvent.FAILURE),
        ("rerecord_episode", OperatorEvent.DISCARD),
        ("terminate_episode", OperatorEvent.STOP),
        ("terminate_episode, success", OperatorEvent.SUCCESS),  # the same twice
    ],
)
def test_a_button_is_one_event_however_long_it_is_held(told, event):
    device, pad = made(PAD)
    down = iter([True, True, False, True])
    pad.get_teleop_events = lambda: dict.fromkeys(told.split(", "), next(down))
    seen = [device.poll(Mode.END_EFFECTOR, 0).events for _ in range(4)]
    assert seen == [(event,), (), (), (event,)]
