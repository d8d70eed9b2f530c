"""Headless rendering that costs what it must: one context per process, no shadows, no reflections,
no multisampling.

Two `mujoco.Renderer`s in one process garble each other's images, so a process has one GL context,
and it belongs to the thread that made it. Images of any size up to the off-screen buffer come from
the same context.
"""

import atexit
import os
import weakref
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from moxin_vla.core.errors import SimulationError

_FAST_OFF = (
    mujoco.mjtRndFlag.mjRND_SHADOW,
    mujoco.mjtRndFlag.mjRND_REFLECTION,
    mujoco.mjtRndFlag.mjRND_SKYBOX,
)


class Renderer:
    """Renders named cameras of one model.

    Raises:
        SimulationError: No OpenGL context can be made; says which backend was tried and how to
            mend it.
    """

    def __init__(self, model: mujoco.MjModel, fast: bool = True) -> None:
        """Make the GL context.

        Args:
            model: The model to render.
            fast: Shadows, reflections and multisampling off. False renders with the model's
                settings, for comparison.
        """
        if fast:
            model.vis.quality.offsamples = 0
        self._model = model
        self._width, self._height = model.vis.global_.offwidth, model.vis.global_.offheight
        self._closed = False
        self._gl = _make_context(self._width, self._height)
        self._scene = mujoco.MjvScene(model, maxgeom=500)
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        # Registered after the context, so that it runs before the GL library's own exit handlers.
        atexit.register(_close, weakref.ref(self))
        self._option, self._perturb = mujoco.MjvOption(), mujoco.MjvPerturb()
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        if fast:
            for flag in _FAST_OFF:
                self._scene.flags[flag] = 0

    def render(
        self, data: mujoco.MjData, camera: str, width: int, height: int
    ) -> NDArray[np.uint8]:
        """Render a camera now; returns RGB uint8 of shape (height, width, 3)."""
        if width > self._width or height > self._height:
            raise SimulationError(
                f"Image size {width}x{height} is larger than the off-screen buffer "
                f"{self._width}x{self._height}."
            )
        self._camera.fixedcamid = mujoco.mj_name2id(
            self._model, mujoco.mjtObj.mjOBJ_CAMERA, camera
        )
        if self._camera.fixedcamid < 0:
            raise SimulationError(f"The scene has no camera '{camera}'.")
        self._gl.make_current()
        mujoco.mjv_updateScene(
            self._model,
            data,
            self._option,
            self._perturb,
            self._camera,
            mujoco.mjtCatBit.mjCAT_ALL,
            self._scene,
        )
        viewport = mujoco.MjrRect(0, 0, width, height)
        mujoco.mjr_render(viewport, self._scene, self._context)
        pixels = np.empty((height, width, 3), np.uint8)
        mujoco.mjr_readPixels(pixels, None, viewport, self._context)
        return np.ascontiguousarray(pixels[::-1])

    def close(self) -> None:
        """Free the GL context. Idempotent."""
        if not self._closed:
            self._closed = True
            self._context.free()
            self._gl.free()


def _close(renderer: weakref.ref["Renderer"]) -> None:
    if alive := renderer():
        alive.close()


def _make_context(width: int, height: int) -> Any:
    try:
        from mujoco.gl_context import GLContext

        context = GLContext(width, height)
        context.make_current()
        return context
    except (
        Exception
    ) as error:  # backends raise what they like: ImportError, RuntimeError, EGLError
        backend = os.environ.get("MUJOCO_GL", "default")
        raise SimulationError(
            f"Rendering does not work with MUJOCO_GL={backend}: {error}.\n"
            "Install the libraries of headless EGL (Debian: apt-get install libegl1 libgl1), or "
            "set MUJOCO_GL=osmesa with libosmesa6 installed. `moxin-vla doctor` checks it."
        ) from error
