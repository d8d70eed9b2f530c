"""The assembler gives an observation, or None and the reason; it never fills anything in."""

from pathlib import Path

import numpy as np
import pytest

from moxin_vla.core.embodiment import load_embodiment
from moxin_vla.core.errors import EmbodimentError, InstructionError, ObservationError
from moxin_vla.observation.assembler import ObservationAssembler

ROBOT = load_embodiment(Path(__file__).parents[3] / "config" / "embodiments" / "so101_sim.yaml")
STEP = ROBOT.step_ns
TASK = "pick up the red cube"


def pixels(value=0, height=96, width=96):
    return np.full((height, width, 3), value, np.uint8)


@pytest.fixture
def assembler():
    return ObservationAssembler(ROBOT)


def put_all(assembler, time_ns, value=0):
    assembler.put_joints(time_ns, ROBOT.joint_names, np.full(6, value / 100))
    for camera in ROBOT.camera_names:
        assembler.put_image(camera, time_ns, pixels(value))


def test_the_newest_moment_is_observed(assembler):
    put_all(assembler, 0, value=1)
    put_all(assembler, STEP, value=2)
    seen = assembler.newest(TASK)
    assert (seen.time_ns, seen.instruction) == (STEP, TASK)
    assert seen.proprio.tolist() == [0.02] * 6
    assert {name: image.max() for name, image in seen.images.items()} == {"front": 2, "wrist": 2}
    assert assembler.reason == ""


def test_images_are_brought_to_the_declared_size(assembler):
    put_all(assembler, 0)
    assembler.put_image("front", 0, pixels(7, height=480, width=640))
    image = assembler.newest(TASK).images["front"]
    assert image.shape == (96, 96, 3) and np.all(image == 7)


def test_an_observation_does_not_follow_the_source_buffer(assembler):
    put_all(assembler, 0)
    reused = pixels(1)
    assembler.put_image("front", 0, reused)
    reused[:] = 200
    assert assembler.newest(TASK).images["front"].max() == 1


def test_without_joints_there_is_no_observation(assembler):
    for camera in ROBOT.camera_names:
        assembler.put_image(camera, 0, pixels())
    assert assembler.newest(TASK) is None
    assert assembler.reason == "no joint state yet"


def test_a_missing_camera_is_named(assembler):
    assembler.put_joints(0, ROBOT.joint_names, np.zeros(6))
    assembler.put_image("front", 0, pixels())
    assert assembler.newest(TASK) is None
    assert assembler.reason == "no image yet from: wrist"


def test_cameras_the_policy_does_not_read_are_not_waited_for():
    assembler = ObservationAssembler(ROBOT, cameras=["front"])
    assembler.put_joints(0, ROBOT.joint_names, np.zeros(6))
    assembler.put_image("front", 0, pixels())
    assert list(assembler.newest(TASK).images) == ["front"]


def test_without_cameras_every_joint_state_is_a_moment():
    assembler = ObservationAssembler(ROBOT, cameras=[])
    assert assembler.newest(TASK) is None
    assert assembler.reason == "no joint state yet"
    assembler.put_joints(STEP, ROBOT.joint_names, np.zeros(6))
    seen = assembler.newest(TASK)
    assert seen.time_ns == STEP and dict(seen.images) == {}


def test_stale_proprio_is_no_observation(assembler):
    put_all(assembler, 0)
    for camera in ROBOT.camera_names:
        assembler.put_image(camera, 6 * STEP, pixels())
    assert assembler.newest(TASK) is None
    assert assembler.reason == "proprio is stale: 0.300 s older than the images, allowed 0.250 s"


def test_images_that_are_too_old_for_now_are_no_observation(assembler):
    put_all(assembler, 0)
    assert assembler.newest(TASK, now_ns=20 * STEP) is not None
    assert assembler.newest(TASK, now_ns=21 * STEP) is None
    assert assembler.reason == "images are stale: 1.050 s old, allowed 1.000 s"


def test_an_unknown_camera_lists_those_in_use(assembler):
    with pytest.raises(ObservationError) as caught:
        assembler.put_image("top", 0, pixels())
    assert str(caught.value) == "Unknown camera 'top'. Cameras in use: front, wrist"


def test_asking_for_a_camera_the_robot_lacks_is_refused():
    with pytest.raises(EmbodimentError) as caught:
        ObservationAssembler(ROBOT, cameras=["top"])
    assert str(caught.value) == ("Unknown camera 'top'. Embodiment 'so101_sim' has: front, wrist")


def test_what_is_not_an_rgb_image_is_refused(assembler):
    with pytest.raises(ObservationError) as caught:
        assembler.put_image("front", 0, np.zeros((96, 96), np.uint8))
    assert str(caught.value) == (
        "Image 'front' must be uint8 of shape (height, width, 3). Got: uint8 (96, 96)"
    )


def test_a_refused_joint_state_changes_nothing(assembler):
    put_all(assembler, 0, value=3)
    with pytest.raises(ObservationError, match="Joint state lacks: "):
        assembler.put_joints(STEP, ["gripper"], [0.0])
    assert assembler.newest(TASK).proprio.tolist() == [0.03] * 6


def test_an_empty_instruction_is_refused(assembler):
    put_all(assembler, 0)
    with pytest.raises(InstructionError, match="The instruction is empty"):
        assembler.newest("  ")


def test_reset_forgets_everything(assembler):
    put_all(assembler, 0)
    assembler.reset()
    assert assembler.newest(TASK) is None
    assert assembler.reason == "no image yet from: front, wrist"


def test_a_clock_set_back_gives_the_new_moment(assembler):
    put_all(assembler, 100 * STEP, value=1)
    put_all(assembler, STEP, value=2)
    assert assembler.newest(TASK).time_ns == STEP


def test_a_frozen_camera_is_refused_and_named(assembler):
    def look(tick, front):
        assembler.put_joints(tick * STEP, ROBOT.joint_names, np.full(6, 0.01 * tick))
        assembler.put_image("front", tick * STEP, pixels(front))
        assembler.put_image("wrist", tick * STEP, pixels(tick))
        return assembler.newest(TASK)

    seen = [look(tick, 7) is not None for tick in range(25)]
    assert seen == [True] * 21 + [False] * 4, "one second of 20 Hz is put up with"
    assert assembler.reason == "frozen: the arm moves, the pixels don't, from front"
    assert look(25, 8) is not None, "it ends with the first new picture"
