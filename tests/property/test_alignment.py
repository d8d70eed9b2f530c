"""Whatever the order, gaps and repeats of messages, an observation is of one moment."""

from pathlib import Path

import numpy as np
from examples import SETTINGS
from hypothesis import given
from hypothesis import strategies as st

from moxin_vla.core.embodiment import load_embodiment
from moxin_vla.observation.assembler import ObservationAssembler

ROBOT = load_embodiment(Path(__file__).parents[2] / "config" / "embodiments" / "so101_sim.yaml")
MS = 1_000_000
TOLERANCE_MS = ROBOT.step_ns // 2 // MS
PROPRIO_MS = round(ROBOT.watchdog.proprio_max_age_s * 1e3)

arrivals = st.lists(
    st.tuples(st.sampled_from([*ROBOT.camera_names, "joints"]), st.integers(0, 600)), max_size=30
)


def stamped_pixels(stamp_ms):
    """Return an image of the declared size that tells its own stamp."""
    image = np.zeros((96, 96, 3), np.uint8)
    image[0, 0, 0], image[0, 0, 1] = divmod(stamp_ms, 256)
    return image


def stamp_of(image):
    return int(image[0, 0, 0]) * 256 + int(image[0, 0, 1])


@SETTINGS
@given(arrivals)
def test_an_observation_is_of_one_moment_and_never_made_up(messages):
    assembler = ObservationAssembler(ROBOT)
    arrived = set()
    for source, stamp_ms in messages:
        arrived.add((source, stamp_ms))
        if source == "joints":
            assembler.put_joints(stamp_ms * MS, ROBOT.joint_names, np.full(6, float(stamp_ms)))
        else:
            assembler.put_image(source, stamp_ms * MS, stamped_pixels(stamp_ms))
        seen = assembler.newest("touch the red cube")
        assert (seen is None) == bool(assembler.reason)
        if seen is None:
            continue
        stamps = {name: stamp_of(image) for name, image in seen.images.items()}
        joints_ms = int(seen.proprio[0])
        assert set(stamps) == set(ROBOT.camera_names)
        assert {*stamps.items(), ("joints", joints_ms)} <= arrived
        assert seen.time_ns == min(stamps.values()) * MS
        assert max(stamps.values()) - min(stamps.values()) <= TOLERANCE_MS
        assert 0 <= min(stamps.values()) - joints_ms <= PROPRIO_MS


@SETTINGS
@given(st.permutations([*ROBOT.joint_names, "wheel", "lamp"]), st.integers(0, 999))
def test_the_order_of_joints_in_a_message_does_not_matter(names, seed):
    values = dict(zip(names, np.random.default_rng(seed).normal(size=len(names)), strict=True))
    assembler = ObservationAssembler(ROBOT, cameras=[])
    assembler.put_joints(0, names, list(values.values()))
    expected = [values[name] for name in ROBOT.joint_names]
    assert assembler.newest("touch the red cube").proprio.tolist() == expected
