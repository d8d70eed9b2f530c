"""Counts and intervals."""

import numpy as np
import pytest

from moxin_vla.core.protocols import EpisodeSpec, EpisodeStatus
from moxin_vla.evaluation.listening import paired_specs, summarise_listening
from moxin_vla.evaluation.rollout import EpisodeResult
from moxin_vla.evaluation.statistics import by_family, wilson_interval


def result(family="pick", success=True, failure="", error="", step=20, seed=0):
    return EpisodeResult(
        spec=EpisodeSpec(seed, family, f"{family} it"),
        status=EpisodeStatus(step, 100, success, failure),
        step_ns=50_000_000,
        proprio=np.zeros((step, 6)),
        commands=np.zeros((step, 6)),
        chunks=[],
        inference_ms=[1.0, 3.0],
        wall_s=0.1,
        error=error,
    )


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [(9, 10, 0.596, 0.982), (45, 50, 0.786, 0.957), (475, 500, 0.927, 0.966), (0, 0, 0.0, 1.0)],
)
def test_wilson_interval_matches_published_values(k, n, low, high):
    assert wilson_interval(k, n) == pytest.approx((low, high), abs=6e-4)


def test_a_broken_episode_counts_as_a_failure():
    broken = result(success=True, error="ValueError: boom")
    (pick, everything) = by_family([result(), broken])
    assert (pick.successes, pick.trials) == (1, 2) and everything.trials == 2
    assert broken.failure == "ValueError: boom"


def test_families_are_kept_apart_and_added_up():
    rows = by_family([result("touch", step=10), result("pick", False, "moved the red cube")])
    assert [(r.name, r.successes, r.trials) for r in rows] == [
        ("touch", 1, 1),
        ("pick", 0, 1),
        ("all", 1, 2),
    ]
    assert rows[0].mean_time_s == 0.5 and np.isnan(rows[1].mean_time_s)
    assert rows[0].inference_ms == pytest.approx((2.0, 2.98))


def test_running_out_of_time_is_said():
    assert result(success=False).failure == "ran out of time"


def test_only_successes_are_paired():
    swapped = paired_specs(
        [result(seed=1), result(success=False, seed=2)],
        lambda s: EpisodeSpec(s.seed, s.family, "other"),
    )
    assert swapped == [EpisodeSpec(1, "pick", "other")]


def test_listening_counts_the_second_runs():
    heard = summarise_listening(
        [result(), result(success=False, failure="moved the red cube"), result(success=False)]
    )
    assert (heard.followed, heard.acted_on_other, heard.trials) == (1, 1, 3)
