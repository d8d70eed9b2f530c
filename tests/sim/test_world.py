"""The tabletop: seeded, fair in judging, and solvable."""

import dataclasses

import numpy as np
import pytest

from moxin_sim import (
    FAMILIES,
    Expert,
    Tabletop,
    instructions,
    other_object_episode,
    sample_episode,
)
from moxin_sim.projection import project
from moxin_sim.robots import so101_kinematics
from moxin_sim.scenes.layout import sample_layout
from moxin_vla.core.embodiment import Camera, load_embodiment
from moxin_vla.core.errors import EmbodimentError, SimulationError
from moxin_vla.core.protocols import EpisodeSpec
from moxin_vla.core.resources import resource_path

EMBODIMENT = load_embodiment(resource_path("config/embodiments/so101_sim.yaml"))


@pytest.fixture(scope="module")
def world():
    world = Tabletop(EMBODIMENT)
    yield world
    world.close()


def play(world, spec, horizon=None):
    """Let the expert play; returns the trajectory (T, 6)."""
    world.reset(spec)
    expert, proprio = Expert(world), []
    while not world.status().done and (horizon is None or len(proprio) < horizon):
        if len(proprio) % 8 == 0:
            chunk = expert.chunk()
        world.step(chunk[len(proprio) % 8])
        proprio.append(world.proprio())
    return np.array(proprio)


def test_there_are_at_least_twelve_instructions_and_three_families():
    assert len(FAMILIES) >= 3 and len(set(instructions())) >= 12


def test_the_same_seed_gives_the_same_pixels_and_the_same_trajectory(world):
    spec = sample_episode("place", 11)
    world.reset(spec)
    first = world.images()
    one = play(world, spec)
    world.reset(sample_episode("pick", 4))
    world.reset(spec)
    second = world.images()
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert np.array_equal(one, play(world, spec))


def test_another_seed_gives_another_scene(world):
    world.reset(sample_episode("pick", 1))
    one = world.images()["front"]
    world.reset(sample_episode("pick", 2))
    assert not np.array_equal(one, world.images()["front"])


@pytest.mark.parametrize("family", FAMILIES)
def test_naming_another_cube_leaves_the_scene_as_it_is(world, family):
    spec = sample_episode(family, 5)
    other = other_object_episode(spec)
    assert other.instruction != spec.instruction and (other.seed, other.family) == (5, family)
    world.reset(spec)
    before = world.images()["front"]
    world.reset(other)
    assert np.array_equal(before, world.images()["front"])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_expert_solves_nearly_every_scene(world, family):
    solved = 0
    for seed in range(100):
        play(world, sample_episode(family, seed))
        solved += world.status().success
    assert solved >= 95


def test_moving_another_cube_is_a_failure(world):
    spec = sample_episode("pick", 7)
    world.reset(other_object_episode(spec))
    wanted = world.colour
    # Play the plan for the first cube while the second is named.
    world.reset(spec)
    named = world.colour
    expert, targets = Expert(world), []
    while not world.status().done:
        targets.append(expert.chunk()[0])
        world.step(targets[-1])
    world.reset(other_object_episode(spec))
    for target in targets:
        world.step(target)
    assert wanted != named
    assert world.status().failure == f"moved the {named} cube" and not world.status().success


def test_touching_another_cube_first_is_a_failure(world):
    spec = sample_episode("touch", 8)
    world.reset(spec)
    named, expert, targets = world.colour, Expert(world), []
    while not world.status().done:
        targets.append(expert.chunk()[0])
        world.step(targets[-1])
    world.reset(other_object_episode(spec))
    for target in targets:
        world.step(target)
    assert world.status().failure == f"touched the {named} cube"


def test_standing_still_runs_out_of_time(world):
    world.reset(sample_episode("touch", 0))
    home = world.proprio()
    while not world.status().done:
        world.step(home)
    status = world.status()
    assert (status.step, status.success, status.failure) == (100, False, "")


def test_unknown_family_instruction_and_cube_are_refused(world):
    with pytest.raises(
        SimulationError, match=r"Unknown task family 'cook'. Choose from: touch, pick, place"
    ):
        sample_episode("cook", 0)
    with pytest.raises(SimulationError, match="'sing' is no instruction of the family 'pick'"):
        world.reset(EpisodeSpec(0, "pick", "sing"))
    present = list(sample_layout("pick", 0).cubes)
    absent = next(c for c in ("red", "green", "blue", "purple") if c not in present)
    with pytest.raises(SimulationError, match=f"There is no {absent} cube in this scene"):
        world.reset(EpisodeSpec(0, "pick", f"pick up the {absent} cube"))


def test_another_robots_embodiment_is_refused():
    joints = tuple(dataclasses.replace(j, name=j.name + "_x") for j in EMBODIMENT.joints)
    gripper = dataclasses.replace(EMBODIMENT.gripper, joint="gripper_x")
    other = dataclasses.replace(
        EMBODIMENT,
        joints=joints,
        gripper=gripper,
        kinematics=None,
        safety=dataclasses.replace(EMBODIMENT.safety, workspace=None),
    )
    with pytest.raises(
        EmbodimentError, match="found in the simulator:     shoulder_pan, shoulder_lift"
    ):
        Tabletop(other)


def test_an_unknown_camera_is_refused():
    cameras = (*EMBODIMENT.cameras, Camera("ceiling", "/camera/ceiling/image_raw", 96, 96))
    with pytest.raises(
        EmbodimentError, match=r"The simulator has no camera ceiling. It has: front, wrist"
    ):
        Tabletop(dataclasses.replace(EMBODIMENT, cameras=cameras))


def test_inverse_kinematics_undo_forward_kinematics():
    rng = np.random.default_rng(0)
    joints = rng.uniform([-1, -1, -0.5, 0.2, -1], [1, 0.5, 1.2, 1.6, 1], (500, 5))
    point, pitch = so101_kinematics.forward(joints)
    again, reachable = so101_kinematics.inverse(point, pitch, joints[:, 4] - 0.0487)
    assert reachable.all()
    np.testing.assert_allclose(so101_kinematics.forward(again)[0], point, atol=1e-9)


def test_kinematics_agree_with_the_model(world):
    world.reset(sample_episode("pick", 0))
    gripper = world.model.body("gripper").id
    offset = np.array([so101_kinematics.LATERAL_M, 0.0, -0.0981])
    point = world.data.xpos[gripper] + world.data.xmat[gripper].reshape(3, 3) @ offset
    np.testing.assert_allclose(so101_kinematics.forward(world.proprio())[0], point, atol=5e-4)


def test_projection_finds_the_cube_in_the_image(world):
    spec = sample_episode("pick", 2)
    world.reset(spec)
    facts, hits = world.facts(), 0
    image = world.images()["front"].astype(int)
    for cube in facts.cubes.values():
        u, v = project(world.model, world.data, "front", cube)
        pixel = image[int(v * 96), int(u * 96)]
        hits += pixel.max() - pixel.min() > 60  # cubes are colourful, the table is grey
    assert hits == 3


def test_episodes_do_not_start_solved_or_failed(world):
    for family in FAMILIES:
        for seed in range(20):
            world.reset(sample_episode(family, seed))
            world.step(world.proprio())
            assert not world.status().success and not world.status().failure
