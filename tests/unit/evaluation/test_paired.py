"""The paired test: evidence from discordant pairs only, valid whenever one looks."""

import numpy as np
import pytest

from moxin_vla.evaluation.paired import DECISIVE, e_value, paired_difference, paired_test


@pytest.mark.parametrize(
    ("wins", "losses", "expected"),
    [(0, 0, 1.0), (1, 0, 1.0), (2, 0, 4 / 3), (1, 1, 2 / 3), (8, 0, 256 / 9), (3, 2, 32 / 60)],
)
def test_the_evidence_is_the_beta_integral(wins, losses, expected):
    assert e_value(wins, losses) == pytest.approx(expected)
    assert e_value(losses, wins) == pytest.approx(expected)


def test_many_pairs_do_not_overflow():
    assert e_value(500, 500) < 1 < e_value(900, 100) < float("inf")
    assert e_value(2000, 0) == float("inf")


def test_only_discordant_pairs_count():
    test = paired_test([True, True, False, False], [True, False, True, False])
    assert (test.wins, test.losses, test.pairs, test.verdict) == (1, 1, 4, "")


def test_a_clear_difference_is_decided_and_says_after_how_many_pairs():
    better = paired_test([True] * 10, [False] * 10)
    assert better.decided_after == 8 and better.verdict == "better"  # 2^7 / 8 = 16, 2^8 / 9 = 28
    assert paired_test([False] * 10, [True] * 10).verdict == "worse"


def test_two_equal_methods_are_seldom_told_apart_however_often_one_looks():
    rng = np.random.default_rng(0)
    decided = sum(
        bool(paired_test(*(rng.random((2, 200)) < 0.8).tolist()).decided_after) for _ in range(300)
    )
    assert decided / 300 <= 1 / DECISIVE


def test_a_difference_comes_with_its_interval():
    first, second = (
        [True] * 43 + [False] * 7,
        [True] * 31 + [False] * 12 + [True] * 2 + [False] * 5,
    )
    difference, (low, high) = paired_difference(first, second)
    assert difference == pytest.approx(0.2)
    assert low == pytest.approx(0.056, abs=0.01) and high == pytest.approx(0.339, abs=0.01)


def test_two_equal_methods_differ_by_nothing():
    difference, (low, high) = paired_difference([True, False] * 20, [True, False] * 20)
    assert difference == 0 and low <= 0 <= high
