"""The self-test at start-up: failures that no exception would ever show.

A checkpoint whose images are ignored, whose cameras are swapped or whose mask is wrong still moves
the robot; in the field such policies went from 97 % success to 50 % or none (openvla/openvla#346,
moojink/openvla-oft#135). Each check asks the policy itself.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moxin_vla.core.embodiment import Embodiment
from moxin_vla.core.errors import PolicyError
from moxin_vla.core.protocols import Policy
from moxin_vla.core.types import Observation

# Below this a difference is none, in the unit of actions; equal input gives exactly equal output.
_NOTHING = 1e-6
LISTENS = "another instruction changes the actions"
CAMERAS = "the order of cameras matters"
_INSTRUCTIONS = ("pick up the red cube", "push the blue bowl to the left")


@dataclass(frozen=True, slots=True)
class Check:
    """One question and its answer.

    Attributes:
        name: What was asked.
        passed: True if the answer is the right one.
        seen: The answer, in words.
    """

    name: str
    passed: bool
    seen: str


def self_test(
    policy: Policy, embodiment: Embodiment, probe: Callable[[], Check] | None = None
) -> tuple[Check, ...]:
    """Ask a policy whether it looks, listens and keeps its hands off its input.

    Args:
        policy: Reset before and after.
        embodiment: For the sizes of its images.
        probe: A question that only this kind of policy can be asked.
    """
    policy.reset()
    tester = _Tester(policy, embodiment)
    checks = [tester.finite(), tester.images(), tester.instructions(), tester.untouched()]
    if len(policy.spec.cameras) > 1:
        checks.append(tester.cameras())
    if probe is not None:
        checks.append(probe())
    policy.reset()
    return tuple(checks)


def require(checks: tuple[Check, ...], name: str) -> None:
    """Raise PolicyError if a check failed, with every failure in one message."""
    failed = [f"{check.name}: {check.seen}" for check in checks if not check.passed]
    if failed:
        raise PolicyError(
            f"Policy '{name}' failed its self-test and must not move a robot.\n  "
            + "\n  ".join(failed)
        )


class _Tester:
    def __init__(self, policy: Policy, embodiment: Embodiment) -> None:
        self._policy, self._embodiment = policy, embodiment
        self._base = self._observe()
        self._actions = self._ask(self._base)

    def finite(self) -> Check:
        good = bool(np.all(np.isfinite(self._actions)))
        return Check("outputs are finite", good, "finite" if good else "NaN or infinity")

    def images(self) -> Check:
        return self._differs("another image changes the actions", self._observe(image_seed=1))

    def instructions(self) -> Check:
        other = self._observe(instruction=_INSTRUCTIONS[1])
        return self._differs(LISTENS, other)

    def cameras(self) -> Check:
        return self._differs(CAMERAS, self._observe(swapped=True))

    def untouched(self) -> Check:
        again = self._observe()
        self._ask(again)
        same = all(
            np.array_equal(again.images[name], pixels)
            for name, pixels in self._base.images.items()
        ) and np.array_equal(again.proprio, self._base.proprio)
        return Check("the observation is not changed", same, "unchanged" if same else "changed")

    def _differs(self, name: str, other: Observation) -> Check:
        difference = float(np.max(np.abs(self._ask(other) - self._actions)))
        return Check(name, not difference <= _NOTHING, f"largest difference {difference:.3g}")

    def _ask(self, observation: Observation) -> NDArray[np.float64]:
        return self._policy.infer(observation).actions

    def _observe(
        self, image_seed: int = 0, instruction: str = _INSTRUCTIONS[0], swapped: bool = False
    ) -> Observation:
        names = self._policy.spec.cameras
        images = {
            name: self._scene(name, 10 * image_seed + index) for index, name in enumerate(names)
        }
        if swapped:
            first, second = names[0], names[1]
            images[first], images[second] = (
                self._scene(first, 10 * image_seed + 1),
                self._scene(second, 10 * image_seed),
            )
        return Observation(0, images, self._proprio(), instruction)

    def _scene(self, camera: str, seed: int) -> NDArray[np.uint8]:
        """Draw coloured blocks, a different picture for each seed."""
        shape = self._embodiment.camera(camera)
        rng = np.random.default_rng(seed)
        blocks = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        rows = np.arange(shape.height) * 8 // shape.height
        columns = np.arange(shape.width) * 8 // shape.width
        return blocks[rows][:, columns]

    def _proprio(self) -> NDArray[np.float64]:
        known = self._policy.spec.proprio_range
        if known is None:
            return (self._embodiment.position_lower + self._embodiment.position_upper) / 2
        return np.array(known).mean(axis=1)
