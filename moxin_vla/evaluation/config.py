"""What determines an evaluation, refused before anything starts if it can't be meant."""

from dataclasses import dataclass
from pathlib import Path

from moxin_vla.core.errors import MoxinVlaError, listed
from moxin_vla.core.protocols import PolicySpec
from moxin_vla.runtime.delay import NO_DELAY, DelayTrace, check_feasible
from moxin_vla.runtime.joiners import DEFAULT_JOINER, JOINERS
from moxin_vla.runtime.joiners.synchronous import Synchronous

EXPERT = "expert"
TRANSPORTS = ("inprocess", "ros")
MODES = ("lockstep", "realtime")


class EvaluationError(MoxinVlaError):
    """An evaluation can't be run as asked."""


@dataclass(frozen=True, slots=True)
class EvaluationConfig:
    """Everything that determines the results.

    Attributes:
        policy: Source for `load_policy`, or `expert` (privileged, in process only).
        embodiment: Embodiment file.
        families: Task families.
        episodes: Episodes per family.
        first_seed: Seed of the first episode; the others follow.
        execution_horizon: Steps s played from each chunk.
        over: `inprocess` or `ros`.
        mode: With ROS: `lockstep` (deterministic) or `realtime`.
        workers: Processes, in process only; results do not depend on it.
        videos: Episodes per family that are filmed.
        failure_videos: Failed episodes per family that are played again for the camera, in process
            only.
        device: Torch device of the policy.
        self_test: False to evaluate a policy that was not tested at start-up.
        delay: Injected inference delay, as `parse_delay` reads it; lockstep only over ROS.
        joiner: How a new chunk joins the plan.

    Raises:
        EvaluationError: A value is out of range, or two of them exclude each other.
    """

    policy: str
    embodiment: Path
    families: tuple[str, ...]
    episodes: int
    first_seed: int = 0
    execution_horizon: int = 8
    over: str = "inprocess"
    mode: str = "lockstep"
    workers: int = 1
    videos: int = 3
    failure_videos: int = 3
    device: str = "cpu"
    self_test: bool = True
    delay: str = NO_DELAY.name
    joiner: str = DEFAULT_JOINER

    def __post_init__(self) -> None:
        for name in ("episodes", "execution_horizon", "workers"):
            self._at_least(name, 1)
        for name in ("first_seed", "videos", "failure_videos"):
            self._at_least(name, 0)
        self._one_of("over", TRANSPORTS)
        self._one_of("mode", MODES)
        self._one_of("joiner", JOINERS)
        if not self.families or len(set(self.families)) < len(self.families):
            raise EvaluationError(
                f"Name every task family once, and at least one. Got: {listed(self.families)}"
            )
        if self.over == "ros":
            self._refuse_what_ros_has_not()

    @property
    def seeds(self) -> range:
        """Seeds of every family."""
        return range(self.first_seed, self.first_seed + self.episodes)

    def _at_least(self, name: str, least: int) -> None:
        if getattr(self, name) < least:
            raise EvaluationError(
                f"{name.replace('_', ' ')} must be at least {least}. Got: {getattr(self, name)}"
            )

    def _one_of(self, name: str, known: tuple[str, ...]) -> None:
        if getattr(self, name) not in known:
            raise EvaluationError(
                f"Unknown {name} '{getattr(self, name)}'. Choose from: {listed(known)}"
            )

    def _refuse_what_ros_has_not(self) -> None:
        if self.policy == EXPERT:
            raise EvaluationError(
                "The expert reads the simulator's own state, which no topic carries. "
                "Run it in process, or choose a checkpoint or scripted:NAME."
            )
        if self.workers > 1:
            raise EvaluationError(
                f"Over ROS one system plays one episode at a time. Got: {self.workers} workers. "
                "Expected: 1"
            )
        if self.mode == "realtime" and self.delay != NO_DELAY.name:
            raise EvaluationError(
                "In realtime inference takes the time it takes; a delay can be injected in "
                f"lockstep or in process. Got: delay {self.delay}"
            )


def check_horizon(
    spec: PolicySpec,
    execution_horizon: int,
    joiner: str = DEFAULT_JOINER,
    delays: DelayTrace = NO_DELAY,
) -> None:
    """Refuse to play more steps than a policy predicts: the arm would starve in every chunk.

    Raises:
        EvaluationError: The execution horizon s is larger than the prediction horizon H.
        DelayError: The delay d is larger than s or H - s, and the joiner does not wait.
    """
    if execution_horizon > spec.horizon:
        raise EvaluationError(
            f"Policy '{spec.name}' predicts H = {spec.horizon} steps; the execution horizon must "
            f"not be larger. Got: s = {execution_horizon}"
        )
    if joiner != Synchronous.name:
        check_feasible(delays, execution_horizon, spec.horizon)
