"""Inverse kinematics of any arm with an MJCF or URDF model, by mink's quadratic programs."""

from collections.abc import Sequence
from pathlib import Path

import mink
import mujoco
import numpy as np
from numpy.typing import NDArray

from moxin_sim.robots import so101
from moxin_vla.core.embodiment import Embodiment
from moxin_vla.core.errors import SimulationError, listed
from moxin_vla.teleop.end_effector import Pose

SO101_END_EFFECTOR = "gripperframe"
_POSITION_COST, _ROTATION_COST, _POSTURE_COST = 1.0, 0.05, 1e-4
_DAMPING, _ITERATIONS, _ENOUGH_RAD = 1e-3, 12, 1e-6


class MinkArm:
    """Kinematics of an embodiment's arm; the gripper stays out of it.

    Args:
        embodiment: Gives joints, their order and position limits, which replace the model's.
        model: The robot; its joints are found by name.
        site: Name of the end effector's site, or of its body if there is no such site.

    Raises:
        SimulationError: The model lacks a joint or the end effector.
    """

    def __init__(self, embodiment: Embodiment, model: mujoco.MjModel, site: str) -> None:
        self._dofs, self._addresses = _joints(embodiment, model)
        self._kind = _kind_of(model, site)
        gripper = embodiment.gripper_index
        self._arm = [i for i in range(embodiment.dof) if i != gripper]
        self._lower, self._upper = embodiment.position_lower, embodiment.position_upper
        for index, name in enumerate(embodiment.joint_names):
            joint = model.joint(name).id
            model.jnt_range[joint] = self._lower[index], self._upper[index]
            model.jnt_limited[joint] = 1
        self._configuration = mink.Configuration(model)
        self._site = site
        self._task = mink.FrameTask(site, self._kind, _POSITION_COST, _ROTATION_COST)
        self._posture = mink.PostureTask(model, cost=_POSTURE_COST)
        self._limits = [mink.ConfigurationLimit(model, gain=1.0)]
        still = [dof for dof in range(model.nv) if dof not in {self._dofs[i] for i in self._arm}]
        self._still = [mink.DofFreezingTask(model, still)] if still else []

    def forward(self, joints: NDArray[np.float64]) -> Pose:
        """Return the end effector's pose for joints (D,), in [rad]."""
        self._put(joints)
        frame = self._configuration.get_transform_frame_to_world(self._site, self._kind)
        return Pose(frame.translation(), frame.rotation().as_matrix())

    def solve(self, joints: NDArray[np.float64], goal: Pose) -> NDArray[np.float64]:
        """Return joints (D,) near `joints` that come nearest to `goal`; see the protocol.

        Gauss-Newton steps, each a quadratic program within the position limits (Buss 2004; mink).
        """
        self._put(joints)
        rotation = mink.SO3.from_matrix(goal.rotation)
        self._task.set_target(mink.SE3.from_rotation_and_translation(rotation, goal.position))
        self._posture.set_target(self._configuration.q)
        for _ in range(_ITERATIONS):
            velocity = mink.solve_ik(
                self._configuration,
                [self._task, self._posture],
                1.0,
                "daqp",
                damping=_DAMPING,
                limits=self._limits,
                constraints=self._still,
            )
            self._configuration.integrate_inplace(velocity, 1.0)
            if np.max(np.abs(velocity)) < _ENOUGH_RAD:
                break
        solved = joints.copy()
        found = self._configuration.q[self._addresses]  # (D,)
        solved[self._arm] = np.clip(found, self._lower, self._upper)[self._arm]
        return solved

    def _put(self, joints: NDArray[np.float64]) -> None:
        q = self._configuration.q.copy()
        q[self._addresses] = np.clip(joints, self._lower, self._upper)
        self._configuration.update(q)


def arm_kinematics(
    embodiment: Embodiment, model_file: str = "", end_effector: str = ""
) -> MinkArm:
    """Return the kinematics of an embodiment.

    Args:
        embodiment: The robot.
        model_file: MJCF or URDF of the robot; empty for the SO-101.
        end_effector: Name of a site or body in it; empty for the SO-101's.

    Raises:
        SimulationError: The file can't be read, or joints or end effector are not in it.
    """
    if not model_file:
        model = so101.arm_spec().compile()
        return MinkArm(embodiment, model, end_effector or SO101_END_EFFECTOR)
    if not Path(model_file).is_file():
        raise SimulationError(f"There is no robot model at '{model_file}'.")
    if not end_effector:
        raise SimulationError(f"Say which site or body of '{model_file}' is the end effector.")
    try:
        model = mujoco.MjModel.from_xml_path(model_file)
    except ValueError as error:
        raise SimulationError(f"'{model_file}' is no MJCF or URDF: {error}") from None
    return MinkArm(embodiment, model, end_effector)


def _joints(embodiment: Embodiment, model: mujoco.MjModel) -> tuple[list[int], list[int]]:
    """Return the dofs and qpos addresses of the embodiment's joints, length D each."""
    known = [model.joint(i).name for i in range(model.njnt)]
    if missing := [name for name in embodiment.joint_names if name not in known]:
        raise SimulationError(
            f"The robot model lacks: {listed(missing)}\n"
            f"  found in the model:         {listed(known)}\n"
            f"  expected by the embodiment: {listed(embodiment.joint_names)}"
        )
    ids = [model.joint(name).id for name in embodiment.joint_names]
    return [int(model.jnt_dofadr[i]) for i in ids], [int(model.jnt_qposadr[i]) for i in ids]


def _kind_of(model: mujoco.MjModel, name: str) -> str:
    sites = _names(model, mujoco.mjtObj.mjOBJ_SITE, model.nsite)
    bodies = _names(model, mujoco.mjtObj.mjOBJ_BODY, model.nbody)
    if name in sites:
        return "site"
    if name in bodies:
        return "body"
    raise SimulationError(
        f"The robot model has no end effector '{name}'. "
        f"Sites: {listed(sites)}. Bodies: {listed(bodies)}"
    )


def _names(model: mujoco.MjModel, kind: mujoco.mjtObj, count: int) -> Sequence[str]:
    return [name for i in range(count) if (name := mujoco.mj_id2name(model, kind, i))]
