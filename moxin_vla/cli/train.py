"""`moxin-vla train`: fine-tune a checkpoint on recorded episodes. Run it again to go on.

RECIPE is a file of config/policies/ with `tune` and `base`, or `sizes` of a model to begin from
random weights; options win over it. Several GPUs: torchrun --nproc-per-node 4 -m
moxin_vla.cli.main train ...
"""

import argparse
import dataclasses
import shutil
from pathlib import Path
from typing import Any

from moxin_vla.core.dataset import Drove
from moxin_vla.core.errors import MoxinVlaError, listed
from moxin_vla.core.journal import append_row, read_rows
from moxin_vla.core.resources import resource_path

_DRIVERS = {"operator": Drove.OPERATOR, "policy": Drove.POLICY, "nobody": Drove.NOBODY}
_RECIPE = "config/policies/tune_nano.yaml"


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "train", help="fine-tune on recorded episodes", description=__doc__
    )
    parser.add_argument("recipe", type=Path, nargs="?", default=resource_path(_RECIPE))
    parser.add_argument(
        "--data",
        nargs="+",
        required=True,
        metavar="DATASET[:WEIGHT]",
        help="LeRobotDataset v3 folders, and how often each is drawn from",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of state and checkpoint")
    parser.add_argument("--base", default="", help="checkpoint to begin with")
    parser.add_argument(
        "--drivers",
        default="operator",
        help="learn from what these did: operator, policy, nobody, or all (default %(default)s)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change a setting of the recipe, such as steps=500; may be repeated",
    )
    parser.add_argument("--embodiment", type=Path, help="default: the simulated SO-101")
    parser.add_argument("--device", default="cpu", help="torch device (default %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="torch threads on a CPU")
    parser.add_argument(
        "--evaluate",
        default="",
        metavar="FAMILY",
        help="evaluate each checkpoint in simulation and keep the best one, too",
    )
    parser.add_argument(
        "--episodes", type=int, default=20, help="of each evaluation (default %(default)s)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Train to the end, or on from where the last call stopped."""
    import torch

    from moxin_vla.policy.moxin.training.ranks import Ranks

    torch.set_num_threads(args.threads)
    ranks = Ranks(args.device)
    try:
        return _train(args, ranks)
    finally:
        ranks.close()


def _train(args: argparse.Namespace, ranks: Any) -> int:
    from rich.console import Console

    from moxin_vla.core.embodiment import load_embodiment
    from moxin_vla.evaluation.curves import write_curves
    from moxin_vla.policy.moxin.training.recorded import Mixture, load_recorded
    from moxin_vla.policy.moxin.training.tuning import Tuner, train

    base, sizes, config = _recipe(args)
    file = args.embodiment or resource_path("config/embodiments/so101_sim.yaml")
    robot = load_embodiment(file)
    if sizes:
        horizon = sizes["chunk"]
    else:
        horizon, robot = _fitting(base, robot)
    roots, weights = _data(args.data)
    drivers = _drivers(args.drivers)
    console = Console(quiet=not ranks.first)
    if not ranks.first:
        ranks.wait()  # for the first one, which decodes what all will map
    data = [load_recorded(r, robot, horizon, args.out / "cache", drivers) for r in roots]
    if sizes:
        base = _begin(args.out / "base", robot, sizes, data, config.seed)
    if ranks.first:
        ranks.wait()
    mixture = Mixture(data, weights, config.seed)
    tuner = Tuner(base, config, mixture, args.out, ranks)
    resumed = tuner.resume()
    console.print(
        f"{tuner.learning / 1e6:.2f} M values learn ({config.learn}) from {len(mixture)} rows of "
        f"{len(roots)} datasets" + (f"; going on at step {tuner.step_number}" if resumed else "")
    )
    with _progress(console, config.steps, tuner.step_number) as on_step:
        judge = _Judge(args, file, console) if args.evaluate else (lambda path, step: None)

        def on_checkpoint(path: Path, step: int) -> None:
            judge(path, step)
            write_curves(args.out)

        if resumed and ranks.first:  # it may have been killed before it was judged
            on_checkpoint(args.out / "checkpoint", tuner.step_number)
        checkpoint = train(tuner, on_step, on_checkpoint)
    console.print(f"checkpoint: {checkpoint}   loss curves: {args.out}/curves.html")
    return 0


def _fitting(base: str, robot: Any) -> tuple[int, Any]:
    """Return a checkpoint's horizon, and the robot with the cameras that it looks at, in order.

    Raises:
        EmbodimentError: It was made for another robot.
    """
    from moxin_vla.core.protocols import PolicySpec
    from moxin_vla.policy.loading import refuse_end_effector
    from moxin_vla.policy.moxin.opening import open_checkpoint
    from moxin_vla.policy.moxin.training.trainable import training_source

    config = open_checkpoint(training_source(base)).config
    refuse_end_effector(config, robot)
    robot.check_policy(
        PolicySpec(
            config.name, config.joints, config.cameras, config.chunk, config.control_rate_hz
        )
    )
    cameras = tuple(robot.camera(name) for name in config.cameras)
    return config.chunk, dataclasses.replace(robot, cameras=cameras)


def _begin(folder: Path, robot: Any, sizes: dict[str, Any], data: list[Any], seed: int) -> str:
    """Write a checkpoint with random weights and the data's statistics, if there is none yet."""
    import numpy as np

    from moxin_vla.core.embodiment import ActionSpace
    from moxin_vla.policy.moxin.training.fresh import write_fresh
    from moxin_vla.policy.moxin.training.objective import relative_chunk

    if not (folder / "config.json").is_file():
        chunks = [d.chunks for d in data]
        if robot.action_space is ActionSpace.JOINT_DELTA:
            gripper = (robot.gripper_index,)
            chunks = [relative_chunk(d.chunks, d.proprio, gripper) for d in data]
        learned = [c[d.counts > 0] for c, d in zip(chunks, data, strict=True)]
        texts = {text for d in data for text in d.texts}
        proprio = np.concatenate([d.proprio for d in data])
        write_fresh(folder, robot, sizes, sorted(texts), proprio, np.concatenate(learned), seed)
    return str(folder)


def _recipe(args: argparse.Namespace) -> tuple[str, dict[str, Any], Any]:
    """Return the checkpoint to begin with, or the sizes of a new model, and the settings."""
    import yaml

    from moxin_vla.policy.moxin.training.tune_config import TuneConfig

    try:
        raw = yaml.safe_load(args.recipe.read_text(encoding="utf-8"))
        settings = dict(raw["tune"])
    except (OSError, KeyError, TypeError, yaml.YAMLError) as error:
        raise MoxinVlaError(f"'{args.recipe}' is no recipe with `tune`: {error}") from None
    for pair in args.set:
        name, equals, value = pair.partition("=")
        if not equals:
            raise MoxinVlaError(f"--set is written NAME=VALUE. Got: '{pair}'")
        settings[name] = yaml.safe_load(value)
    known = [field.name for field in dataclasses.fields(TuneConfig)]
    if unknown := [name for name in settings if name not in known]:
        raise MoxinVlaError(f"Unknown setting {listed(unknown)}. Known: {listed(known)}")
    base = args.base or raw.get("base", "")
    if not base and "sizes" in raw:
        return "", _sizes(raw["sizes"]), TuneConfig(**settings)
    if not base:
        raise MoxinVlaError(f"'{args.recipe}' names no `base`: say it with --base CHECKPOINT.")
    shipped = resource_path(base) if base.startswith("checkpoints/") else Path(base)
    return str(shipped if shipped.exists() else base), {}, TuneConfig(**settings)


def _sizes(name: str) -> dict[str, Any]:
    """Return the `model` section of a recipe, of ours by name or of a file."""
    import yaml

    file = Path(name) if Path(name).is_file() else resource_path(name)
    sizes = dict(yaml.safe_load(file.read_text(encoding="utf-8"))["model"])
    if "chunk" not in sizes:
        raise MoxinVlaError(f"The `model` of '{file}' lacks: chunk")
    return sizes


def _data(named: list[str]) -> tuple[list[Path], list[float] | None]:
    pairs = [name.rpartition(":") for name in named]
    roots = [
        Path(root if colon and _number(weight) else name)
        for name, (root, colon, weight) in zip(named, pairs, strict=True)
    ]
    weights = [float(weight) if colon and _number(weight) else None for _, colon, weight in pairs]
    if all(weight is None for weight in weights):
        return roots, None
    return roots, [1.0 if weight is None else weight for weight in weights]


def _number(text: str) -> bool:
    return text.replace(".", "", 1).isdigit()


def _drivers(text: str) -> list[int]:
    if text == "all":
        return []
    names = [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in _DRIVERS]:
        raise MoxinVlaError(f"Unknown driver {listed(unknown)}. Choose from: {listed(_DRIVERS)}")
    return [int(_DRIVERS[name]) for name in names]


class _progress:  # noqa: N801 - a context manager that reads as a function
    """A bar with the present loss."""

    def __init__(self, console: Any, steps: int, done: int) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        self._bar = Progress(*columns, TimeRemainingColumn(), console=console)
        self._task = self._bar.add_task("training", total=steps, completed=done)
        self._mean: float | None = None

    def __enter__(self) -> Any:
        self._bar.start()
        return self._step

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def _step(self, step: int, loss: float) -> None:
        self._mean = loss if self._mean is None else 0.95 * self._mean + 0.05 * loss
        self._bar.update(self._task, completed=step, description=f"loss {self._mean:.4f}")


class _Judge:
    """Evaluates checkpoints as they come and keeps the best one."""

    def __init__(self, args: argparse.Namespace, embodiment: Path, console: Any) -> None:
        self._args, self._embodiment, self._console = args, embodiment, console
        self._file = args.out / "evaluations.jsonl"
        rows = read_rows(self._file)
        self._rates = {row["step"]: row["success"] / row["episodes"] for row in rows}
        best, old = (args.out / name for name in ("best", "best.old"))
        if old.is_dir() and not best.exists():
            old.rename(best)  # it was killed while it put a better one in its place

    def __call__(self, checkpoint: Path, step: int) -> None:
        """Play the episodes, note the successes, keep the checkpoint if it is the best; once."""
        if step in self._rates:
            return

        from moxin_vla.evaluation.config import EvaluationConfig
        from moxin_vla.evaluation.runner import plan_episodes, run_episodes

        config = EvaluationConfig(
            policy=str(checkpoint),
            embodiment=self._embodiment,
            families=(self._args.evaluate,),
            episodes=self._args.episodes,
            first_seed=500_000,
            workers=1,
            videos=0,
        )
        results = run_episodes(config, plan_episodes(config), lambda result: None)
        success = sum(result.status.success for result in results)
        rate = success / len(results)
        if rate > max(self._rates.values(), default=-1.0):
            self._keep(checkpoint)
        self._rates[step] = rate
        append_row(self._file, {"step": step, "success": success, "episodes": len(results)})
        self._console.print(f"step {step}: {success} of {len(results)} {self._args.evaluate}")

    def _keep(self, checkpoint: Path) -> None:
        """Make a checkpoint the best one; a crash leaves the former or this one."""
        best, beside, old = (self._args.out / f"best{end}" for end in ("", ".new", ".old"))
        for left in (beside, old):
            shutil.rmtree(left, ignore_errors=True)
        shutil.copytree(checkpoint, beside)
        if best.exists():
            best.rename(old)
        beside.rename(best)
        shutil.rmtree(old, ignore_errors=True)
