"""Which failures are played again for the camera, and which films are believed."""

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from moxin_vla.core.protocols import EpisodeSpec, EpisodeStatus
from moxin_vla.evaluation import filming
from moxin_vla.evaluation.config import EvaluationConfig
from moxin_vla.evaluation.rollout import EpisodeResult

FRAME = np.zeros((4, 4, 3), np.uint8)


def result(family: str, success: bool, seed: int = 0, frames: int = 0) -> EpisodeResult:
    return EpisodeResult(
        spec=EpisodeSpec(seed, family, "do it"),
        status=EpisodeStatus(9, 9, success),
        step_ns=50_000_000,
        proprio=np.zeros((9, 6)),
        commands=np.full((9, 6), float(seed)),
        chunks=[],
        inference_ms=[],
        wall_s=1.0,
        frames=[FRAME] * frames,
    )


def test_the_first_unfilmed_failures_of_each_family_are_chosen():
    results = [
        result("pick", False, frames=3),
        result("pick", False),
        result("pick", True),
        result("place", False),
        result("pick", False),
        result("pick", False),
    ]
    assert filming.unfilmed_failures(results, per_family=2) == [1, 3, 4]
    assert filming.unfilmed_failures(results, per_family=0) == []


def test_only_a_second_run_that_equals_the_first_is_shown(monkeypatch):
    class Again:
        def run(self, spec, video):
            assert video
            drift = 1e-12 if spec.seed == 2 else 0.0  # a policy that is not deterministic
            once = result(spec.family, False, spec.seed, frames=4)
            return replace(once, commands=once.commands + drift, wall_s=77.0)

    @contextmanager
    def open_rollout(config):
        yield Again()

    monkeypatch.setattr(filming, "open_rollout", open_rollout)
    config = EvaluationConfig("scripted:hold", Path("x.yaml"), ("pick",), 3)
    first = [result("pick", False, seed) for seed in (1, 2)]
    filmed = filming.film_failures(config, first)
    assert [len(r.frames) for r in filmed] == [4, 0]
    assert filmed[0].wall_s == 1.0  # everything but the film is from the first run


def test_without_failures_nothing_is_built(monkeypatch):
    monkeypatch.setattr(filming, "open_rollout", None)
    config = EvaluationConfig("scripted:hold", Path("x.yaml"), ("pick",), 1)
    assert len(filming.film_failures(config, [result("pick", True)])) == 1
