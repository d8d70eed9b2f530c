"""Datasets with nothing wrong in them, and with one thing wrong."""

import dataclasses

import numpy as np

from moxin_vla.core.dataset import Drove
from moxin_vla.recording.rows import Row
from moxin_vla.recording.stored import StoredDataset
from tests.recording.episodes import ROBOT, Session

ROWS = 40
_MIDDLE = (ROBOT.position_lower + ROBOT.position_upper) / 2
_PHASE = np.arange(6) * 0.7
_Y, _X = np.mgrid[:96, :96]


def pose(k, episode=0):
    """Return where a swinging arm is at row k; every joint swings in its own way."""
    return _MIDDLE + 0.35 * np.sin(2.0 * k / ROBOT.control_rate_hz + _PHASE + episode)


def picture(k, number=0):
    wave = 120 + 60 * np.sin((_X + 4 * k) / 9 + number) * np.cos(_Y / 11)
    return np.repeat(wave.astype(np.uint8)[..., None], 3, axis=2)


def sound_row(k, episode=0):
    tick_ns = (1000 * episode + k) * ROBOT.step_ns + 1_000_000_000
    return Row(
        tick_ns=tick_ns,
        images={name: picture(k, i) for i, name in enumerate(ROBOT.camera_names)},
        image_ns=dict.fromkeys(ROBOT.camera_names, tick_ns - 5_000_000),
        proprio=pose(k, episode),
        proprio_ns=tick_ns,
        command=pose(k + 1, episode),
        requested=pose(k + 1, episode),
        driver=Drove.OPERATOR,
        chunk_age_ms=-1.0,
        instruction="pick up the red cube",
        repeated=(False,) * len(ROBOT.camera_names),
    )


def record(root, spoil=lambda k, row: row, episodes=1, codec="h264", success=1):
    """Record sound episodes, each row changed by `spoil(k, row)`; None leaves a row out."""
    with Session(root, codec=codec) as session:
        for episode in range(episodes):
            rows = [spoil(k, sound_row(k, episode)) for k in range(ROWS)]
            session.recorder.begin()
            session.recorder.add([row for row in rows if row is not None])
            session.recorder.finish(success, "asked to", {"episode": episode})
    assert not [w for w in session.written if w.failed], session.written
    return StoredDataset(root)


def changed(row, **how):
    return dataclasses.replace(row, **how)
