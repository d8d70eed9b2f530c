"""The simulator's scripted expert as an operator: for tests, and to correct a policy (DAgger).

The expert's actions come from sim_node, which alone sees the world. A rule says when it takes
over; it drives until the episode ends or `give_back_after_s` has passed. Rules are met once per
episode, but `far` again and again.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moxin_vla.core.clock import seconds_to_ns
from moxin_vla.core.embodiment import Embodiment
from moxin_vla.core.errors import listed
from moxin_vla.core.types import frozen_array
from moxin_vla.teleop.base import Mode, OperatorEvent, OperatorInput, TeleopError

RULES = ("always", "never", "late", "far")
_FRESH_STEPS = 3  # realtime: an expert's action older than that is no longer passed on

type Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class AutopilotOptions:
    """When the expert takes over.

    Attributes:
        rule: `always`: at the first tick. `never`: only when asked to. `late`: `after_s` after the
            first tick. `far`: once the policy's action was farther than `far_rad` from the
            expert's, in any joint, for `far_s` without a break.
        after_s: For the rule `late`.
        far_rad: For the rule `far`, in [rad].
        far_s: For the rule `far`.
        give_back_after_s: How long it then drives; 0 for the rest of the episode.
    """

    rule: str = "always"
    after_s: float = 4.0
    far_rad: float = 0.3
    far_s: float = 0.5
    give_back_after_s: float = 0.0

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise TeleopError(f"Unknown rule '{self.rule}'. Choose from: {listed(RULES)}")
        for name in ("after_s", "far_rad", "far_s", "give_back_after_s"):
            if not 0 <= getattr(self, name) < math.inf:
                raise TeleopError(f"{name} must be a time or angle. Got: {getattr(self, name)}")


class Autopilot:
    """Passes the expert's actions on while it has control. Clock: the simulator's ticks.

    Args:
        embodiment: The robot.
        options: When it takes over.
    """

    modes: tuple[Mode, ...] = ()
    has_dead_man, aligns = False, False

    def __init__(self, embodiment: Embodiment, options: AutopilotOptions) -> None:
        self._options, self._step_ns = options, embodiment.step_ns
        self._episode = ""
        self._begin()

    def _begin(self) -> None:
        self._first_ns: int | None = None
        self._expert: dict[int, Array] = {}  # tick [ns] -> (D,)
        self._policy: dict[int, Array | None] = {}
        self._compared_ns = -1
        self._far_since_ns: int | None = None
        self._took_ns: int | None = None
        self._gave_back = False

    def put_expert(self, tick_ns: int, action: Array, episode: str) -> bool:
        """Take what the expert would command at a tick, (D,) in [rad].

        Returns:
            True if another episode has begun with it, or the clock went back.
        """
        newest = max(self._expert, default=tick_ns)
        began = episode != self._episode or tick_ns < newest
        if began:
            self._episode = episode
            self._begin()
        self._expert[tick_ns] = frozen_array(action)
        if self._first_ns is None:
            self._first_ns = tick_ns
        self._forget_before(tick_ns - 20 * self._step_ns)
        return began

    def put_requested(self, tick_ns: int, driver: str, action: Array | None) -> None:
        """Take what whoever drives asked for at a tick; only a policy's counts."""
        self._policy[tick_ns] = action if driver == "policy" else None

    def open(self) -> None:
        """Nothing to open: the node subscribes."""

    def close(self) -> None:
        """Nothing to close."""

    def ready(self, tick_ns: int) -> bool:
        """Return whether the expert's action for the tick has come, and what the rule looks at."""
        if tick_ns not in self._expert:
            return False
        before_ns = tick_ns - self._step_ns
        looks = self._options.rule == "far" and self._took_ns is None
        return not looks or before_ns not in self._expert or before_ns in self._policy

    def poll(self, mode: Mode, now_ns: int) -> OperatorInput:
        """Return the newest action up to `now_ns`, and whether to take over or give back."""
        ticks = [tick for tick in self._expert if tick <= now_ns]
        if not ticks or now_ns - max(ticks) > _FRESH_STEPS * self._step_ns:
            return OperatorInput()
        return OperatorInput(
            held=True, target=self._expert[max(ticks)], events=self._decide(max(ticks))
        )

    def keys(self, mode: Mode) -> Sequence[tuple[str, str]]:
        """Return the rule in words."""
        options = self._options
        words = {
            "always": "at the first tick",
            "never": "when asked to (~/take)",
            "late": f"{options.after_s:g} s after the first tick",
            "far": f"when the policy is {options.far_rad:g} rad off for {options.far_s:g} s",
        }
        return [("expert takes over", words[options.rule])]

    def _decide(self, tick_ns: int) -> tuple[OperatorEvent, ...]:
        """Return TAKE when the rule is first met in an episode, GIVE_BACK when its time is up."""
        if self._took_ns is None and self._due(tick_ns):
            self._took_ns = tick_ns
            return (OperatorEvent.TAKE,)
        drives_ns = seconds_to_ns(self._options.give_back_after_s)
        over = self._took_ns is not None and drives_ns and tick_ns - self._took_ns >= drives_ns
        if over and not self._gave_back:
            self._gave_back = self._options.rule != "far"
            self._far_since_ns = None
            self._took_ns = None if self._options.rule == "far" else self._took_ns
            return (OperatorEvent.GIVE_BACK,)
        return ()

    def _due(self, tick_ns: int) -> bool:
        rule, options = self._options.rule, self._options
        if rule == "always":
            return True
        if rule == "late":
            assert self._first_ns is not None
            return tick_ns - self._first_ns >= seconds_to_ns(options.after_s)
        return rule == "far" and self._far(tick_ns)

    def _far(self, tick_ns: int) -> bool:
        """Compare all ticks before this one that are known; return whether it was far for long."""
        for tick in sorted(t for t in self._policy if self._compared_ns < t < tick_ns):
            self._compared_ns = tick
            asked, right = self._policy[tick], self._expert.get(tick)
            off = asked is not None and right is not None
            if not off or np.max(np.abs(asked - right)) <= self._options.far_rad:
                self._far_since_ns = None
            elif self._far_since_ns is None:
                self._far_since_ns = tick
        since_ns = self._far_since_ns
        return since_ns is not None and tick_ns - since_ns >= seconds_to_ns(self._options.far_s)

    def _forget_before(self, tick_ns: int) -> None:
        self._expert = {tick: a for tick, a in self._expert.items() if tick >= tick_ns}
        self._policy = {tick: a for tick, a in self._policy.items() if tick >= tick_ns}
