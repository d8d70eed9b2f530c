"""From a source that a user writes to a policy that fits the robot."""

from pathlib import Path

from moxin_vla.core.embodiment import Embodiment
from moxin_vla.core.errors import DependencyError, PolicyError
from moxin_vla.core.protocols import Policy
from moxin_vla.policy.scripted import ScriptedPolicy

_SCRIPTED = "scripted:"


def load_policy(source: str, embodiment: Embodiment, device: str = "cpu") -> Policy:
    """Load a policy and check it against the robot before anything moves.

    Args:
        source: A checkpoint directory, or `scripted:NAME`.
        embodiment: The robot.
        device: Torch device for checkpoints.

    Raises:
        PolicyError: The source is neither.
        CheckpointError: The checkpoint is not whole.
        EmbodimentError: It was made for another robot.
        DependencyError: torch is missing.
    """
    if source.startswith(_SCRIPTED):
        policy: Policy = ScriptedPolicy(source.removeprefix(_SCRIPTED), embodiment)
    elif Path(source).is_dir():
        policy = _load_checkpoint(source, device)
    else:
        raise PolicyError(
            f"There is no policy '{source}'. Expected: a checkpoint directory, or one of "
            "scripted:hold, scripted:sweep, scripted:nan"
        )
    embodiment.check_policy(policy.spec)
    return policy


def _load_checkpoint(source: str, device: str) -> Policy:
    try:
        import torch

        from moxin_vla.policy.moxin.policy import MoxinPolicy
    except ImportError as error:
        raise DependencyError(
            f"Checkpoints need torch ({error}). Install it with: pip install 'moxin_vla[policy]'"
        ) from None
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise PolicyError(f"Device '{device}' was asked for, and torch sees no GPU. Use: cpu")
    if device == "cpu":
        torch.set_num_threads(1)  # more threads are slower beside a simulator or a control loop
    return MoxinPolicy.from_directory(source, device)
