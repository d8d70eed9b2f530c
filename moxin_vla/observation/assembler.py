"""The assembler: what the policy node feeds with messages and asks for observations."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from moxin_vla.core.clock import NS_PER_S, seconds_to_ns
from moxin_vla.core.embodiment import Embodiment
from moxin_vla.core.errors import ObservationError, listed
from moxin_vla.core.images import resized
from moxin_vla.core.joints import JointLookup
from moxin_vla.core.types import Observation, checked_instruction, frozen_array
from moxin_vla.observation.align import Aligned, Gap, align
from moxin_vla.observation.buffer import StampedBuffer
from moxin_vla.observation.frozen import FrozenCamera

_IMAGE_DEPTH = 4
_JOINT_DEPTH = 256  # at 1 kHz an image may come a quarter of a second after its joint state


class ObservationAssembler:
    """Keeps the latest images and joint states and aligns them by capture stamp.

    Used from one thread. Nothing missing is ever filled in: without every camera and a fitting
    joint state there is no observation, and `reason` says what is lacking.

    Args:
        embodiment: Names, sizes and allowed ages.
        cameras: Cameras that the policy reads; all of the embodiment's if None.
        tolerance_ns: Largest spread of the stamps of one image set; half a control step if None.
    """

    def __init__(
        self,
        embodiment: Embodiment,
        cameras: Sequence[str] | None = None,
        tolerance_ns: int | None = None,
    ) -> None:
        names = embodiment.camera_names if cameras is None else cameras
        self._cameras = {name: embodiment.camera(name) for name in names}
        self._tolerance_ns = embodiment.step_ns // 2 if tolerance_ns is None else tolerance_ns
        self._proprio_max_age_ns = seconds_to_ns(embodiment.watchdog.proprio_max_age_s)
        self._camera_max_age_ns = seconds_to_ns(embodiment.watchdog.camera_max_age_s)
        self._lookup = JointLookup(embodiment.joint_names)
        self._images = {name: StampedBuffer[NDArray[np.uint8]](_IMAGE_DEPTH) for name in names}
        self._joints = StampedBuffer[NDArray[np.float64]](_JOINT_DEPTH)
        max_frozen_s = embodiment.watchdog.camera_max_age_s
        self._watched = {name: FrozenCamera(max_frozen_s) for name in names}
        self._reason = ""

    @property
    def reason(self) -> str:
        """Why `newest` last returned None; empty if it did not."""
        return self._reason

    def put_image(self, camera: str, time_ns: int, pixels: NDArray[np.uint8]) -> None:
        """Take an image captured at `time_ns`; it is copied and brought to the camera's size.

        Args:
            camera: Name of one of the cameras in use.
            time_ns: Capture time, in [ns].
            pixels: uint8 RGB, shape (height, width, 3).

        Raises:
            ObservationError: The camera is not in use, or `pixels` is not such an array.
        """
        if camera not in self._cameras:
            raise ObservationError(
                f"Unknown camera '{camera}'. Cameras in use: {listed(self._cameras)}"
            )
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            raise ObservationError(
                f"Image '{camera}' must be uint8 of shape (height, width, 3). "
                f"Got: {pixels.dtype} {pixels.shape}"
            )
        size = self._cameras[camera]
        image = frozen_array(resized(pixels, size.height, size.width), np.uint8)
        self._images[camera].put(time_ns, image)

    def put_joints(self, time_ns: int, names: Sequence[str], positions: ArrayLike) -> None:
        """Take a joint state captured at `time_ns`.

        Args:
            time_ns: Capture time, in [ns].
            names: Joint names in any order; more than the embodiment's are fine.
            positions: One position per name, in [rad].

        Raises:
            ObservationError: A joint is missing, named twice or not finite, or the lengths differ.
        """
        self._joints.put(time_ns, self._lookup.proprio(names, positions))

    def newest(self, instruction: str, now_ns: int | None = None) -> Observation | None:
        """Build the newest observation that can be built; None, with `reason`, if none can.

        Args:
            instruction: What the operator asked for.
            now_ns: Control clock, in [ns]; if given, images older than allowed are refused, as
                those of a frozen camera always are.

        Raises:
            InstructionError: The instruction is empty.
        """
        instruction = checked_instruction(instruction)
        found = align(self._images, self._joints, self._tolerance_ns, self._proprio_max_age_ns)
        if isinstance(found, Gap):
            self._reason = found.reason
            return None
        self._reason = self._stale(found, now_ns) or self._frozen(found)
        if self._reason:
            return None
        return Observation(found.time_ns, found.images, found.proprio, instruction)

    def _stale(self, found: Aligned, now_ns: int | None) -> str:
        """Say that the images are too old; empty if they are not, or no clock is given."""
        if now_ns is None or now_ns - found.time_ns <= self._camera_max_age_ns:
            return ""
        ages_ns = (now_ns - found.time_ns, self._camera_max_age_ns)
        age_s, allowed_s = (ns / NS_PER_S for ns in ages_ns)
        return f"images are stale: {age_s:.3f} s old, allowed {allowed_s:.3f} s"

    def _frozen(self, found: Aligned) -> str:
        """Say which cameras show the same while the arm moves; empty if none does."""
        looks = [
            name
            for name, image in found.images.items()
            if self._watched[name].frozen(found.time_ns, image, found.proprio)
        ]
        if not looks:
            return ""
        return f"frozen: the arm moves, the pixels don't, from {listed(looks)}"

    def reset(self) -> None:
        """Forget every image and joint state, as at the start of an episode."""
        for buffer in self._images.values():
            buffer.reset()
        for camera in self._watched.values():
            camera.reset()
        self._joints.reset()
        self._reason = ""
