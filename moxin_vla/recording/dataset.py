"""A thin hold on lerobot's dataset writer: create, add episodes, finish; a finished dataset
carries a mark.
"""

import json
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any

from moxin_vla.core.dataset import FINISHED_MARK
from moxin_vla.core.errors import DependencyError


class DatasetWriter:
    """Writes one LeRobotDataset v3; all of it or, after a crash, none of it.

    A dataset without the mark `meta/moxin_vla.json` was cut off: lerobot's parquet files have no
    footer until `finalize`. What was there before is deleted, so a recipe can simply run again.

    Args:
        root: Folder of the dataset; made here.
        features: lerobot's feature declaration.
        fps: Frames per second that the rows stand for.
        robot_type: Name of the embodiment.
        metadata: Written into the mark: seeds, versions, recipe.
    """

    def __init__(
        self,
        root: Path,
        features: dict[str, dict],
        fps: int,
        robot_type: str,
        metadata: dict[str, Any],
    ) -> None:
        try:
            from lerobot.datasets.lerobot_dataset import LeRobotDataset
        except ImportError as error:
            raise DependencyError(
                "Recording needs lerobot. Install it with: pip install 'moxin_vla[data]'"
            ) from error
        if root.exists():
            shutil.rmtree(root)
        root.parent.mkdir(parents=True, exist_ok=True)
        self._metadata, self._root, self._episodes = metadata, root, 0
        self._dataset = LeRobotDataset.create(
            repo_id=f"moxin_vla/{root.name}",
            fps=fps,
            features=features,
            root=root,
            robot_type=robot_type,
            use_videos=False,
            metadata_buffer_size=100,
        )

    def add_episode(self, frames: list[dict[str, Any]], instruction: str) -> None:
        """Write one episode; frames hold every declared feature. Fewer than two frames are
        refused.
        """
        if len(frames) < 2:
            raise ValueError(f"An episode needs at least 2 frames. Got: {len(frames)}")
        for frame in frames:
            self._dataset.add_frame({**frame, "task": instruction})
        self._dataset.save_episode()
        self._episodes += 1

    def __enter__(self) -> "DatasetWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._dataset.finalize()
        if kind is None:
            mark = self._metadata | {"episodes": self._episodes}
            (self._root / FINISHED_MARK).write_text(
                json.dumps(mark, indent=2) + "\n", encoding="utf-8"
            )
