"""From a source that a user writes to a policy that fits the robot."""

from functools import partial
from pathlib import Path
from typing import Any

from moxin_vla.core.embodiment import ActionSpace, Embodiment
from moxin_vla.core.errors import DependencyError, EmbodimentError, PolicyError, listed
from moxin_vla.core.protocols import Policy, PolicySpec
from moxin_vla.policy.lerobot import OURS, LeRobotPolicy, is_lerobot
from moxin_vla.policy.scripted import ScriptedPolicy
from moxin_vla.policy.self_test import CAMERAS, LISTENS, require, self_test
from moxin_vla.policy.sources import may_be_hub_id

_SCRIPTED = "scripted:"


def load_policy(
    source: str, embodiment: Embodiment, device: str = "cpu", test: bool = True
) -> Policy:
    """Load a policy and check it against the robot before anything moves.

    Args:
        source: A checkpoint directory, ours or LeRobot's, a policy file, a Hugging Face id, or
            `scripted:NAME`.
        embodiment: The robot.
        device: Torch device for checkpoints.
        test: False to leave out the self-test: then nothing shows a policy that is blind,
            deaf or masked wrongly.

    Raises:
        PolicyError: There is no such policy, or it failed its self-test.
        CheckpointError: The checkpoint is not whole.
        EmbodimentError: It was made for another robot.
        DependencyError: torch is missing.
    """
    source = own_checkpoint(source)
    if source.startswith(_SCRIPTED):
        policy: Policy = ScriptedPolicy(source.removeprefix(_SCRIPTED), embodiment)
    elif is_lerobot(source):
        policy = _load_lerobot(Path(source), embodiment, device, test)
    elif Path(source).exists() or may_be_hub_id(source):
        return _load_checkpoint(source, embodiment, device, test)
    else:
        raise PolicyError(
            f"There is no policy '{source}'. Expected: a checkpoint directory, a policy file "
            "(.yaml), a Hugging Face id (owner/name), or one of "
            "scripted:hold, scripted:sweep, scripted:nan"
        )
    embodiment.check_policy(policy.spec)
    return policy


def read_spec(source: str, embodiment: Embodiment) -> PolicySpec:
    """Return what a policy needs and gives, without reading its weights.

    Raises what `load_policy` raises for the same source, but for the self-test.
    """
    source = own_checkpoint(source)
    if (
        source.startswith(_SCRIPTED)
        or is_lerobot(source)
        or not (Path(source).exists() or may_be_hub_id(source))
    ):
        return load_policy(source, embodiment).spec
    from moxin_vla.policy.moxin.opening import open_checkpoint
    from moxin_vla.policy.moxin.policy import policy_spec
    from moxin_vla.policy.moxin.policy_file import as_source

    opened = open_checkpoint(as_source(source))
    opened.check_weights()
    refuse_end_effector(opened.config, embodiment)
    spec = policy_spec(opened.config, opened.statistics(), opened.fingerprint())
    embodiment.check_policy(spec)
    return spec


def own_checkpoint(source: str) -> str:
    """Return our own checkpoint if it lies in a folder that LeRobot saved."""
    inside = Path(source) / OURS
    return str(inside) if is_lerobot(source) and inside.is_dir() else source


def _load_checkpoint(source: str, embodiment: Embodiment, device: str, test: bool) -> Policy:
    try:
        import torch

        from moxin_vla.policy.moxin.policy import MoxinPolicy
        from moxin_vla.policy.moxin.policy_file import as_source
        from moxin_vla.policy.moxin.probe import attention_probe
    except ImportError as error:
        raise DependencyError(
            f"Checkpoints need torch ({error}). Install it with: pip install 'moxin_vla[policy]'"
        ) from None
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise PolicyError(f"Device '{device}' was asked for, and torch sees no GPU. Use: cpu")
    if device == "cpu":
        torch.set_num_threads(1)  # more threads are slower beside a simulator or a control loop
    policy = MoxinPolicy.load(as_source(source), device, embodiment.gripper)
    refuse_end_effector(policy.checkpoint.config, embodiment)
    embodiment.check_policy(policy.spec)
    if test:
        probe = partial(attention_probe, policy.checkpoint)
        require(self_test(policy, embodiment, probe), policy.spec.name)
    return policy


def _load_lerobot(directory: Path, embodiment: Embodiment, device: str, test: bool) -> Policy:
    """Load one of LeRobot's policies.

    One that reads no text is not asked whether it listens; none is asked for the order of its
    cameras: it takes them by name, and to ACT, for one, cameras are alike.
    """
    policy = LeRobotPolicy(directory, embodiment, device)
    if test:
        spared = {CAMERAS} if policy.listens else {CAMERAS, LISTENS}
        checks = self_test(policy, embodiment)
        require(tuple(c for c in checks if c.name not in spared), policy.spec.name)
    return policy


def refuse_end_effector(config: Any, embodiment: Embodiment) -> None:
    """Raise EmbodimentError if a checkpoint acts on an end effector: robots here have joints."""
    if config.action_space is ActionSpace.END_EFFECTOR_DELTA:
        raise EmbodimentError(
            f"Policy '{config.name}' acts in end_effector_delta ({listed(config.joints)}). "
            f"Embodiment '{embodiment.name}' is commanded by its joints: "
            f"{listed(embodiment.joint_names)}. Fine-tune it on joint actions of this robot."
        )
