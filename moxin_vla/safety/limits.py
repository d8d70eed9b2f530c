"""Joint limits: what no command may exceed, whatever the policy asks for."""

import copy

import numpy as np
from numpy.typing import NDArray

from moxin_vla.core.clock import NS_PER_S
from moxin_vla.core.embodiment import Embodiment
from moxin_vla.core.protocols import Limited, Review
from moxin_vla.core.types import CommitReason, frozen_array
from moxin_vla.safety.braking import Bounds, Braking, Reach
from moxin_vla.safety.contract import ChunkContract, judged_joints
from moxin_vla.safety.kinematics import forward_kinematics
from moxin_vla.safety.path import Path
from moxin_vla.safety.watchdog import StalenessWatchdog

type Array = NDArray[np.float64]

_SLOW_SPEED, _ROUNDING_RAD = 0.5, 1e-9
_SPEEDS = (1.0, 0.5, 0.25)  # at which a chunk is tried, as a share of what it asks for
_TRIED_TICKS = 16  # of a chunk, at each speed


class JointLimits:
    """Position, velocity, acceleration and jerk limits; implements `core.protocols.SafetyFilter`.

    Limits hold between commands, one control period apart, and are exact there. With every
    command the stop that would follow it is worked out and kept; a target for which there is
    none is replaced by the nearest for which there is one, and if none is left the kept stop
    goes on. So from every command on, standstill within all limits can be reached.

    Differences are taken between commands, not from the measured pose: an arm lags behind, so
    anchoring every tick at the measurement would slow it down and let it drift. Only the first
    command after a reset starts from the measured pose, at rest. Called once per tick.

    Args:
        embodiment: Limits, workspace, allowed ages.
    """

    def __init__(self, embodiment: Embodiment) -> None:
        self._dof = embodiment.dof
        self._bounds = bounds_of(embodiment)
        self._braking = Braking(self._bounds)
        allowed_s = embodiment.watchdog.proprio_max_age_s
        self._proprio = StalenessWatchdog(allowed_s)
        self._young = StalenessWatchdog(allowed_s / 2)
        self._contract, self._judged = ChunkContract(embodiment), judged_joints(embodiment)
        self._path_tolerance_rad = embodiment.safety.path_tolerance_rad
        box = embodiment.safety.workspace
        self._kinematics = forward_kinematics(embodiment)
        self._workspace = box and (frozen_array(box.lower), frozen_array(box.upper))
        self.reset()

    @property
    def standing(self) -> bool:
        """True if the last three commands were one and the same, or nothing was commanded yet."""
        return self._sent is None or bool(np.all(self._sent == self._sent[0]))

    def reset(self) -> None:
        """Forget the last commands: the next one starts from the measured pose, at rest."""
        self._sent: Array | None = None  # (3, D), newest first
        self._stop: Array = np.empty((0, self._dof))  # (n, D), what follows if nothing else does
        self._path = Path(self._judged)
        self._moved = False  # True once a target was followed
        self._on_plan = False  # True if the last command was its target

    def new_path(self) -> None:
        """Begin a new path at the last command; what was left of the old one is dropped."""
        self._path.clear()

    def preview(self) -> "JointLimits":
        """Return a copy for trying a plan on; nothing done to it shows here."""
        trial = copy.copy(self)  # arrays are replaced, never written to; only the path changes
        trial._path = self._path.copy()
        return trial

    def fresh(self, proprio_time_ns: int, now_ns: int) -> bool:
        """Return True if proprio captured at `proprio_time_ns` may still be acted on."""
        return self._proprio.fresh(proprio_time_ns, now_ns)

    def speed(self, proprio_time_ns: int, now_ns: int) -> float:
        """Return the share of full speed, 0..1: half once proprio is half way to stale."""
        return 1.0 if self._young.fresh(proprio_time_ns, now_ns) else _SLOW_SPEED

    def review(self, steps: Array, measured: Array) -> Review:
        """Judge the steps of a chunk before it is committed.

        Args:
            steps: What would be played from now on, shape (n, D), finite, in [rad].
            measured: Measured joint positions, shape (D,), in [rad].

        Returns:
            Whether the plan is within the contract, and the speed, 0..1, at which it can be
            followed without leaving its path; CANNOT_BRAKE if it can't at any that is tried.
        """
        commanded = None if self._sent is None else self._sent[0]
        first = None if self._moved else measured
        reason = self._contract.judge(steps, first, commanded)
        if reason is not CommitReason.ACCEPTED:
            return Review(reason)
        if self._braking.holds(self._from(measured), steps, self._judged):
            return Review(reason)
        for speed in _SPEEDS:
            if self._stays_on_path(steps, measured, speed):
                return Review(reason, speed)
        return Review(CommitReason.CANNOT_BRAKE)

    def limit(
        self, target: Array, measured: Array, speed: float = 1.0, ahead: Array | None = None
    ) -> Limited | None:
        """Bring the next target of a path inside every limit: slow down first, bend if need be.

        An arm that is on the plan goes where the plan says, if the limits allow it. One that has
        to catch up goes no faster than it can stop before it gets beyond the plan.

        Args:
            target: Joint position targets, shape (D,), in [rad].
            measured: Measured joint positions, shape (D,), in [rad].
            speed: Targets per tick, 0..1.
            ahead: Targets of the ticks after this one, shape (n, D); None if they are not known.

        Returns:
            Positions to command, or None if `target`, or the pose to start from, is not finite
            or not of shape (D,).
        """
        if not (self._usable(target) and (self._sent is not None or self._usable(measured))):
            return None
        sent = self._from(measured)
        inside = np.clip(target, self._bounds.lower, self._bounds.upper)
        if speed == 1.0 and (followed := self._follow(sent, target, inside)):
            return followed
        reach = self._reach(sent, inside, ahead)
        if not self._path.begun:
            self._path.start(sent[0])
        point = self._path.advance(inside, *self._box(sent, reach), speed)
        slowed = point is not None and point is not inside
        wanted = inside if point is None else point
        positions, stop = self._nearest(sent, reach, wanted)
        stop = _distinct(stop)
        if not self._inside_workspace(sent[0], positions, stop):
            return self._with_names(self.brake(measured), ("workspace",))
        self._moved = True
        self._on_plan = bool(np.max(np.abs(positions - inside)) <= _ROUNDING_RAD)
        names = self._names(target, wanted, sent, positions)
        names = (*names, "slowed") if slowed else names
        return Limited(self._send(sent, positions, stop), names)

    def brake(self, measured: Array) -> Limited | None:
        """Take the next step to standstill, or stand; None if there is nowhere to stand yet.

        Args:
            measured: Where to stand if nothing was commanded yet, shape (D,), in [rad].
        """
        if self._sent is None and not self._usable(measured):
            return None
        self._path.clear()
        self._on_plan = False
        sent = self._from(measured)
        positions = self._next(sent)
        named = ("position",) if self._sent is None and np.any(positions != measured) else ()
        return Limited(self._send(sent, positions, self._stop[1:]), named)

    def settle(self, target: Array) -> None:
        """Make `brake` go to a pose and stand there; only while standing, else nothing happens."""
        if self._sent is None or not self.standing or not self._usable(target):
            return
        end = np.clip(target, self._bounds.lower, self._bounds.upper)
        way = self._braking.move(self._sent[0], end)
        if self._inside_workspace(self._sent[0], way[0], way):
            self._stop = way

    def _follow(self, sent: Array, target: Array, inside: Array) -> Limited | None:
        """Go straight to the target of an arm that is on its plan, as nearly every tick can.

        What the rest of `limit` would find too, at a third of its time.
        """
        on_plan = self._on_plan and self._path.idle and bool((inside == target).all())
        stop = self._braking.behind(sent, inside) if on_plan else None
        if stop is None or not self._inside_workspace(sent[0], inside, stop):
            return None
        self._path.start(inside)
        return Limited(self._send(sent, inside, stop), ())

    def _reach(self, sent: Array, inside: Array, ahead: Array | None) -> Reach:
        """Return where the next command may be; for an arm off the plan, so that it gets back."""
        reach = self._braking.reach(sent)
        if self._on_plan and reach.allows(inside):
            return reach
        plan = inside[None]  # (n, D)
        if ahead is not None and len(ahead):
            plan = np.concatenate([plan, np.clip(ahead, self._bounds.lower, self._bounds.upper)])
        return self._braking.reach(sent, plan)

    def _box(self, sent: Array, reach: Reach) -> tuple[Array, Array]:
        """Return the smallest and largest next positions, (D,) each; the kept stop's at least."""
        lower, upper = reach.box()
        go_on = self._next(sent)
        return np.fmin(lower, go_on), np.fmax(upper, go_on)

    def _nearest(self, sent: Array, reach: Reach, wanted: Array) -> tuple[Array, Array]:
        """Return the nearest next position within reach, (D,), and the stop behind it, (n, D)."""
        options = np.clip(wanted, reach.lower, reach.upper)  # (N, D)
        missed = np.where(reach.lower <= reach.upper, np.abs(options - wanted), np.inf)
        lengths = np.argmin(missed, axis=0)  # (D,), the shortest stop among equals
        joints = np.arange(self._dof)
        none = ~np.isfinite(missed[lengths, joints])
        positions = np.where(none, sent[0], options[lengths, joints])
        positions = np.clip(positions, self._bounds.lower, self._bounds.upper)
        stop = self._braking.stop(sent, positions, lengths)
        if np.any(none):
            go_on = self._next(sent)
            positions = np.where(none, go_on, positions)
            stop = np.where(none, _shifted(self._stop, len(stop), go_on), stop)
        return positions, stop

    def _stays_on_path(self, steps: Array, measured: Array, speed: float) -> bool:
        """Play the beginning of a plan on a copy; say whether the judged joints stay on its path.

        The end is left to the ticks, which keep every limit anyway: a review must not take
        longer than a control period.
        """
        trial = self.preview()
        trial._workspace = None  # holding it is a matter of the tick, and costs kinematics
        trial.new_path()
        beginning = np.clip(steps[:_TRIED_TICKS], self._bounds.lower, self._bounds.upper)
        for i, step in enumerate(beginning):
            limited = trial.limit(step, measured, speed, beginning[i + 1 :])
            assert limited is not None
            off = np.abs(limited.positions - step)[self._judged]
            if "slowed" not in limited.limited and np.max(off) > self._path_tolerance_rad:
                return False
        return True

    def _from(self, measured: Array) -> Array:
        """Return the last three commands, newest first, (3, D); at rest if there are none."""
        if self._sent is not None:
            return self._sent
        inside = np.clip(measured, self._bounds.lower, self._bounds.upper)
        return np.stack([inside, inside, inside])

    def _next(self, sent: Array) -> Array:
        return self._stop[0] if len(self._stop) else sent[0]

    def _send(self, sent: Array, positions: Array, stop: Array) -> Array:
        sending = frozen_array(positions)
        self._sent = np.stack([sending, sent[0], sent[1]])
        self._stop = stop
        return sending

    def _usable(self, positions: Array) -> bool:
        return np.shape(positions) == (self._dof,) and bool(np.all(np.isfinite(positions)))

    def _inside_workspace(self, at: Array, positions: Array, stop: Array) -> bool:
        """Say whether the end effector stays in its box, or at least goes no farther out of it."""
        if self._workspace is None or self._kinematics is None:
            return True
        lower, upper = self._workspace
        visited = self._kinematics(np.vstack([at, positions, stop]))  # (n, 3)
        outside = np.maximum(lower - visited, visited - upper).clip(0.0)  # (n, 3)
        return bool(np.all(outside[1:] <= outside[0]))

    def _names(
        self, target: Array, wanted: Array, sent: Array, positions: Array
    ) -> tuple[str, ...]:
        """Name the limits that the wanted point would break; `braking` if only its stop would."""
        bounds = self._bounds
        step = wanted - sent[0]
        force = step - (sent[0] - sent[1])
        jerk = force - ((sent[0] - sent[1]) - (sent[1] - sent[2]))
        broken = {
            "position": np.clip(target, bounds.lower, bounds.upper) != target,
            "velocity": np.abs(step) > bounds.velocity,
            "acceleration": np.abs(force) > bounds.acceleration,
            "jerk": np.abs(jerk) > bounds.jerk,
        }
        named = tuple(name for name, where in broken.items() if np.any(where))
        known = np.any([broken[name] for name in ("velocity", "acceleration", "jerk")], axis=0)
        missed = np.abs(positions - wanted) > _ROUNDING_RAD
        return (*named, "braking") if np.any(missed & ~known) else named

    @staticmethod
    def _with_names(limited: Limited | None, names: tuple[str, ...]) -> Limited | None:
        return None if limited is None else Limited(limited.positions, names)


def bounds_of(embodiment: Embodiment) -> Bounds:
    """Return an embodiment's limits per control period."""
    period_s = embodiment.step_ns / NS_PER_S
    return Bounds(
        embodiment.position_lower,
        embodiment.position_upper,
        embodiment.velocity_limit * period_s,
        embodiment.acceleration_limit * period_s**2,
        embodiment.jerk_limit * period_s**3,
    )


def _shifted(stop: Array, length: int, at: Array) -> Array:
    """Return what is left of a stop after its first step, (length, D)."""
    left = stop[1 : length + 1]
    last = left[-1:] if len(left) else at[None]
    return np.concatenate([left, np.repeat(last, length - len(left), axis=0)])


def _distinct(stop: Array) -> Array:
    """Return a stop without the repetitions at its end, (n, D)."""
    moves = np.flatnonzero(np.any(stop != stop[-1:], axis=1))
    return stop[: int(moves[-1]) + 2] if len(moves) else stop[-1:]
