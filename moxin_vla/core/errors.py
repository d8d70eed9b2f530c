"""The error tree. Loading and configuring raise; a control tick returns verdicts instead."""

from collections.abc import Iterable


class MoxinVlaError(Exception):
    """Root of every error a user can cause and mend."""


class EmbodimentError(MoxinVlaError):
    """An embodiment file is wrong, or does not fit the robot, the data or the checkpoint."""


class CheckpointError(MoxinVlaError):
    """A checkpoint is incomplete, inconsistent or made for something else."""


class ObservationError(MoxinVlaError):
    """An observation can't be built or can't be used as it is."""


class InstructionError(MoxinVlaError):
    """An instruction is empty or not text."""


class PolicyError(MoxinVlaError):
    """A policy was asked for something it can't do, or answered out of contract."""


class SimulationError(MoxinVlaError):
    """The simulator can't be built, rendered or reset as asked."""


class RecordingError(MoxinVlaError):
    """An episode can't be recorded, or a dataset can't be written, read or extended."""


class DependencyError(MoxinVlaError):
    """An optional dependency is missing."""


def listed(names: Iterable[object]) -> str:
    """Join alternatives for an error message: `a, b, c`, or `none`."""
    return ", ".join(str(name) for name in names) or "none"
