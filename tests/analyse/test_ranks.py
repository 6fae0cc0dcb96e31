from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.analyse.ranks import fisher, holm, rank_test


def drawn(count: int, shift: float = 0.0, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1, count)


def test_samples_are_ranked_as_scipy_does_it_exactly() -> None:
    first, second = drawn(7), drawn(9, 1, seed=1)
    found = rank_test(first, second, paired=False)
    expected = stats.mannwhitneyu(first, second, method="exact")
    assert found is not None
    assert found.p == pytest.approx(expected.pvalue)
    larger = np.mean([b > a for a in first for b in second])
    assert found.superiority == pytest.approx(larger)
    assert found.cliffs_delta == pytest.approx(2 * larger - 1)


def test_ties_count_half_and_all_equal_is_no_difference() -> None:
    found = rank_test(np.ones(5), np.ones(6), paired=False)
    assert found is not None
    assert (found.p, found.superiority, found.cliffs_delta) == (1.0, 0.5, 0.0)
    paired = rank_test(np.ones(5), np.ones(5), paired=True)
    assert paired is not None
    assert (paired.p, paired.superiority) == (1.0, 0.5)


def test_pairs_are_ranked_by_their_differences() -> None:
    first = drawn(10)
    found = rank_test(first, first + 0.1 + 0.01 * np.arange(10), paired=True)
    assert found is not None
    assert found.p == pytest.approx(2 / 2**10)
    assert found.superiority == 1.0


def test_the_least_p_says_when_there_are_too_few_repeats() -> None:
    low, high = np.arange(3.0), np.arange(3.0) + 10
    apart, pairs = rank_test(low, high, paired=False), rank_test(low, high, paired=True)
    assert apart is not None
    assert pairs is not None
    assert apart.p == apart.least == pytest.approx(0.1)
    assert pairs.least == pytest.approx(0.25)
    assert rank_test(low, np.array([]), paired=False) is None


def test_shares_are_compared_exactly() -> None:
    assert fisher((10, 10), (0, 10)) == pytest.approx(2 / 184756)
    assert fisher((3, 10), (3, 10)) == 1.0


def test_holm_multiplies_the_least_by_their_number_and_never_falls() -> None:
    assert holm([0.01, None, 0.04, 0.03]) == [pytest.approx(0.03), None, pytest.approx(0.06), pytest.approx(0.06)]
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
