"""The chain in the embodiment file is the robot that MuJoCo simulates."""

import numpy as np

from moxin_sim import Tabletop
from moxin_vla.core.embodiment import load_embodiment
from moxin_vla.core.resources import resource_path
from moxin_vla.safety.kinematics import forward_kinematics

ROBOT = load_embodiment(resource_path("config/embodiments/so101_sim.yaml"))


def test_the_end_effector_is_where_mujoco_puts_it():
    import mujoco  # after moxin_sim, which chooses how it renders

    world = Tabletop(ROBOT)
    try:
        model, data = world.model, world.data
        places = [model.joint(name).qposadr[0] for name in ROBOT.joint_names]
        poses = np.random.default_rng(0).uniform(
            ROBOT.position_lower, ROBOT.position_upper, (50, 6)
        )
        expected = []
        for pose in poses:
            data.qpos[places] = pose
            mujoco.mj_kinematics(model, data)
            expected.append(data.site("gripperframe").xpos.copy())
    finally:
        world.close()
    found = forward_kinematics(ROBOT)(poses)
    assert np.allclose(found, expected, rtol=0.0, atol=1e-6)
