"""The recipe of a small model: from datasets to a checkpoint, resumable at any point."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from moxin_vla.core.dataset import is_finished
from moxin_vla.core.embodiment import Embodiment
from moxin_vla.core.errors import MoxinVlaError, listed
from moxin_vla.policy.moxin.checkpoint import save_checkpoint
from moxin_vla.policy.moxin.config import MoxinConfig
from moxin_vla.policy.moxin.preprocess import default_preprocessor, load_preprocessor
from moxin_vla.policy.moxin.presets import nano_config
from moxin_vla.policy.moxin.statistics import fit_statistics, parse_statistics
from moxin_vla.policy.moxin.tokenizer import PromptTokenizer, build_tokenizer, load_tokenizer
from moxin_vla.policy.moxin.training.data import Sampler, Shard, load_shard
from moxin_vla.policy.moxin.training.objective import relative_chunk
from moxin_vla.policy.moxin.training.settings import TrainConfig
from moxin_vla.policy.moxin.training.trainer import Codec, Trainer, read_state

_STATISTICS_SHARDS = 3
_LOG_EVERY, _SAVE_EVERY = 50, 400  # steps


@dataclass(frozen=True, slots=True)
class DataRecipe:
    """What to record; see `config/policies/moxin_nano.yaml`."""

    first_seed: int
    seeds_per_shard: int
    episodes_per_shard: int
    expert_shards: int
    max_shards: int
    policy_share: float
    stride: int


@dataclass(frozen=True, slots=True)
class Recipe:
    """A recipe file, parsed: `train` makes the policy, `adapt` teaches it to continue a committed
    prefix.
    """

    data: DataRecipe
    model: dict[str, Any]
    train: TrainConfig
    adapt: TrainConfig | None = None

    @property
    def total_samples(self) -> int:
        """Samples of both stages."""
        return self.train.total_samples + (self.adapt.total_samples if self.adapt else 0)


def load_recipe(path: Path) -> Recipe:
    """Read a recipe; raises MoxinVlaError naming a missing or unknown field."""
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    return Recipe(
        data=_section(DataRecipe, raw["data"], f"{path}: data"),
        model=raw["model"],
        train=_section(TrainConfig, raw["train"], f"{path}: train"),
        adapt=_section(TrainConfig, raw["adapt"], f"{path}: adapt") if "adapt" in raw else None,
    )


def _section(kind: Any, values: dict[str, Any], where: str) -> Any:
    known = [field.name for field in fields(kind)]
    if unknown := [name for name in values if name not in known]:
        raise MoxinVlaError(f"{where}: unknown {listed(unknown)}. Known: {listed(known)}")
    try:
        return kind(**values)
    except TypeError as error:
        raise MoxinVlaError(f"{where}: {error}") from None


class Workshop:
    """A folder in which a model is made: `data/`, `cache/`, `train/`, `checkpoint/`, statistics
    and tokenizer.

    Args:
        folder: The folder; made if missing.
        recipe: What to make.
        embodiment: For which robot.
        instructions: Texts that the tokenizer should know.
    """

    def __init__(
        self, folder: Path, recipe: Recipe, embodiment: Embodiment, instructions: tuple[str, ...]
    ) -> None:
        self.folder, self.recipe, self.embodiment = folder, recipe, embodiment
        self._instructions = instructions
        self._loaded: set[str] = set()
        self._sampler = Sampler(recipe.train.seed)
        folder.mkdir(parents=True, exist_ok=True)

    def shard_root(self, index: int) -> Path:
        """Folder of a dataset."""
        return self.folder / "data" / f"shard_{index:03d}"

    @property
    def checkpoint(self) -> Path:
        """Folder of the newest exported checkpoint."""
        return self.folder / "checkpoint"

    @property
    def ready(self) -> bool:
        """True once the datasets that fix the statistics are finished."""
        return all(is_finished(self.shard_root(index)) for index in range(_STATISTICS_SHARDS))

    def add_finished_shards(self) -> int:
        """Take up datasets that have been finished since the last call; returns all frames now
        known.
        """
        for index in range(self.recipe.data.max_shards):
            root = self.shard_root(index)
            if root.name not in self._loaded and is_finished(root):
                self._sampler.add(self._load(root))
                self._loaded.add(root.name)
        return len(self._sampler)

    def _load(self, root: Path) -> Shard:
        return load_shard(root, self.embodiment.camera_names, self.folder / "cache")

    def train(self, on_log: Callable[[dict[str, float]], None]) -> None:
        """Train, or train on, until the recipe's samples are used up; exports a checkpoint now and
        then.
        """
        self.add_finished_shards()
        trained = read_state(self.folder / "train")
        if trained is None or trained["samples"] < self.recipe.train.total_samples:
            self._run(self._trainer(self.recipe.train, "train"), on_log)
            trained = read_state(self.folder / "train")
        if self.recipe.adapt is not None and trained is not None:
            trainer = self._trainer(self.recipe.adapt, "adapt")
            trainer.start_from(trained["average"])
            self._run(trainer, on_log)

    def _run(self, trainer: Trainer, on_log: Callable[[dict[str, float]], None]) -> None:
        trainer.resume()
        step = 0
        while not trainer.done:
            trainer.step()
            step += 1
            if step % _LOG_EVERY == 0:
                on_log(trainer.log())
                self.add_finished_shards()
            if step % _SAVE_EVERY == 0:
                trainer.save()
                self.export(trainer)
        trainer.save()
        self.export(trainer)

    def export(self, trainer: Trainer) -> None:
        """Write the averaged weights as a checkpoint: beside the last one, then in its place."""
        tokenizer = load_tokenizer(self.folder / "tokenizer.json")
        fresh, old = self.folder / "checkpoint.new", self.folder / "checkpoint.old"
        save_checkpoint(fresh, trainer.model, self._statistics(), tokenizer)
        if self.checkpoint.exists():
            self.checkpoint.rename(old)
        fresh.rename(self.checkpoint)
        shutil.rmtree(old, ignore_errors=True)

    def _trainer(self, settings: TrainConfig, folder: str) -> Trainer:
        path = self.folder / "tokenizer.json"
        if not path.is_file():
            build_tokenizer(self._instructions).save(str(path))
        tokenizer = load_tokenizer(path)
        config = nano_config(self.embodiment, tokenizer, self.recipe.model, "moxin-nano-so101")
        codec = self._codec(config, PromptTokenizer(tokenizer, config))
        return Trainer(config, settings, codec, self._sampler, self.folder / folder)

    def _codec(self, config: MoxinConfig, prompts: PromptTokenizer) -> Codec:
        entry = next(iter(self._statistics().values()))
        statistics = parse_statistics(
            entry, config.norm_type, config.action_dim, config.proprio_dim
        )
        preprocessor = load_preprocessor(default_preprocessor(config), config)

        def tokens(texts: list[str]) -> tuple[torch.Tensor, torch.Tensor | None]:
            ids, mask = (torch.tensor(rows) for rows in prompts.padded(texts))
            return ids, None if bool(mask.all()) else mask

        return Codec(
            pixels=preprocessor.pixel_values,
            tokens=tokens,
            proprio=statistics.normalise_proprio,
            actions=lambda chunk, proprio: statistics.action.normalise(
                relative_chunk(chunk, proprio, config.absolute_dims)
            ),
        )

    def _statistics(self) -> dict[str, Any]:
        """Return the statistics of the first datasets; fixed once computed, so that later data
        can't shift the scale.
        """
        path = self.folder / "dataset_statistics.json"
        if not path.is_file():
            shards = [self._load(self.shard_root(i)) for i in range(_STATISTICS_SHARDS)]
            absolute = (self.embodiment.gripper_index,)
            chunks = [relative_chunk(s.chunk, s.proprio, absolute) for s in shards]
            actions = np.concatenate(chunks).reshape(-1, self.embodiment.dof)
            entry = fit_statistics(actions, np.concatenate([s.proprio for s in shards]))
            path.write_text(json.dumps({"so101_tabletop": entry}, indent=2), encoding="utf-8")
        return json.loads(path.read_text(encoding="utf-8"))
