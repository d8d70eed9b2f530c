"""A small recorded dataset and a small checkpoint to train on it."""

import pytest

pytest.importorskip("lerobot", reason="needs lerobot: pip install 'moxin_vla[data]'")
pytest.importorskip("torch", reason="needs torch: pip install 'moxin_vla[policy]'")

import torch

from moxin_vla.core.dataset import Drove
from moxin_vla.policy.moxin.presets import write_random_checkpoint
from tests.recording.episodes import ROBOT, Session, row


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "recorded"
    with Session(root, codec="png") as session:
        session.record(0, rows=20, driver=Drove.OPERATOR)
        session.recorder.begin()
        for k in range(24):  # the policy drives, then the operator takes over
            driver = Drove.POLICY if k < 12 else Drove.OPERATOR
            session.recorder.add([row(1, k, driver)])
        session.recorder.finish(1, "asked to", {})
    return root


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("base") / "random"
    write_random_checkpoint(path, ROBOT, seed=1)
    return path
