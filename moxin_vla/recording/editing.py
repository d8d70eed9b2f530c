"""New datasets from parts of others: by lerobot's own tools, checked before and complete after.

A result is written beside its place and put there at once; sources are only read.
"""

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from moxin_vla.core.dataset import FINISHED_MARK
from moxin_vla.core.errors import DependencyError, RecordingError, listed
from moxin_vla.recording.stored import StoredDataset

_NOTES = "meta/recording"


def take_episodes(dataset: StoredDataset, parts: Mapping[Path, Sequence[int]]) -> None:
    """Write some episodes of a dataset into new ones; they are numbered from 0 there.

    Args:
        dataset: The source.
        parts: New folder -> episodes; an episode goes into one folder at most.

    Raises:
        RecordingError: A folder exists, a part is empty, or the source can't be read.
        DependencyError: lerobot is not installed.
    """
    for target, episodes in parts.items():
        _refuse_existing(target, [dataset])
        if not episodes:
            raise RecordingError(f"No episode would go into '{target}'.")
    known = {e.index for e in dataset.episodes}
    if unknown := sorted({i for part in parts.values() for i in part} - known):
        raise RecordingError(
            f"There is no episode {listed(unknown)}; the dataset has 0 to {max(known)}."
        )
    tools, source = _lerobot(), _opened(dataset.root)
    places = {target: _beside(target) for target in parts}
    with _all_or_nothing(list(places.values()), dataset.root):
        for target, episodes in parts.items():
            beside, kept = places[target], sorted(episodes)
            tools.split_dataset(source, {beside.name: kept}, beside.parent)
            taken = {"dataset": dataset.root.name, "episodes": kept}
            notes = [(dataset.root, index) for index in kept]
            _complete(beside, dataset.metadata | {"taken_from": taken}, notes)
    for target, beside in places.items():
        beside.rename(target)


def merge(datasets: Sequence[StoredDataset], target: Path) -> None:
    """Write several datasets into a new one, in the order given.

    Raises:
        RecordingError: They differ in robot, rate or columns; the folder exists.
        DependencyError: lerobot is not installed.
    """
    _refuse_existing(target, datasets)
    first = datasets[0]
    for other in datasets[1:]:
        _refuse_differences(first, other)
    tools, opened, beside = _lerobot(), [_opened(d.root) for d in datasets], _beside(target)
    mark = first.metadata | {
        "merged_from": [{"dataset": d.root.name, "episodes": len(d.episodes)} for d in datasets]
    }
    notes = [(d.root, e.index) for d in datasets for e in d.episodes]
    with _all_or_nothing([beside], *(d.root for d in datasets)):
        tools.merge_datasets(opened, target.name, beside)
        _complete(beside, mark, notes)
    beside.rename(target)


@contextlib.contextmanager
def _all_or_nothing(besides: Sequence[Path], *sources: Path) -> Iterator[None]:
    """Leave nothing of what was written aside if lerobot can't write all of it."""
    try:
        yield
    except BaseException as error:
        for beside in besides:
            shutil.rmtree(beside, ignore_errors=True)
        if not isinstance(error, Exception) or isinstance(error, RecordingError):
            raise
        raise RecordingError(
            f"lerobot can't take episodes from {listed(sources)} "
            f"({type(error).__name__}: {error}). "
            f"What is wrong: moxin-vla dataset check {sources[0]}"
        ) from error


def _refuse_existing(target: Path, sources: Sequence[StoredDataset]) -> None:
    for source in sources:
        if target.resolve().is_relative_to(source.root.resolve()) and not target.exists():
            raise RecordingError(f"'{target}' lies in its own source. Name a folder outside.")
    if target.exists():
        raise RecordingError(f"'{target}' exists already. Name a new folder.")


def _refuse_differences(one: StoredDataset, other: StoredDataset) -> None:
    wrong = []
    for name in ("fps", "robot_type"):
        if one.info.get(name) != other.info.get(name):
            wrong.append(f"{name}: {one.info.get(name)} and {other.info.get(name)}")
    for key in {**one.features, **other.features}:
        facts = [_facts(d.features.get(key)) for d in (one, other)]
        if facts[0] != facts[1]:
            wrong.append(f"{key}: {facts[0]} and {facts[1]}")
    if wrong:
        raise RecordingError(
            f"'{one.root}' and '{other.root}' can't be merged:\n  " + "\n  ".join(wrong)
        )


def _facts(feature: Mapping[str, Any] | None) -> str:
    if feature is None:
        return "absent"
    return f"{feature['dtype']} {tuple(feature['shape'])} {feature.get('names') or ''}".strip()


def _lerobot() -> Any:
    try:
        from lerobot.datasets import dataset_tools
    except ImportError as error:
        raise DependencyError(
            "Editing datasets needs lerobot. Install it with: pip install 'moxin_vla[data]'"
        ) from error
    return dataset_tools


def _opened(root: Path) -> Any:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    try:
        return LeRobotDataset(f"moxin_vla/{root.name}", root=root)
    except Exception as error:  # it asks the Hub for what is missing here
        raise RecordingError(
            f"lerobot can't load '{root}' ({type(error).__name__}). "
            f"What is wrong with it: moxin-vla dataset check {root}"
        ) from error


def _beside(target: Path) -> Path:
    """Return an empty place beside the target."""
    beside = target.with_name(f".{target.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    return beside


def _complete(beside: Path, mark: Mapping[str, Any], notes: Sequence[tuple[Path, int]]) -> None:
    """Add what lerobot does not know of."""
    for number, (root, index) in enumerate(notes):
        note = root / _NOTES / f"{index:06d}.json"
        if note.is_file():
            (beside / _NOTES).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(note, beside / _NOTES / f"{number:06d}.json")
    text = json.dumps(dict(mark), indent=2) + "\n"
    (beside / FINISHED_MARK).write_text(text, encoding="utf-8")
