from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from harness.analyse.tails import chi_square, kendall, kruskal, student, student_quantile

RNG = np.random.default_rng(1)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 30, 31, 500, 1001])
def test_students_t_and_chi_square_are_scipys(freedom: int) -> None:
    for value in (0.0, 0.01, 1.0, 2.5, 8.0, 60.0):
        assert student(-value, freedom) == pytest.approx(2 * stats.t.sf(value, freedom), rel=1e-10)
        assert chi_square(value, freedom) == pytest.approx(stats.chi2.sf(value, freedom), rel=1e-9, abs=1e-300)


@pytest.mark.parametrize("count", [2, 3, 5, 12, 33, 34, 100])
def test_kendalls_tau_and_kruskal_and_walliss_h_are_scipys(count: int) -> None:
    order = np.arange(count)
    for slope in (0.0, 0.02, -0.1, 1.0):
        values = RNG.normal(size=count) + slope * order
        assert kendall(values) == pytest.approx(stats.kendalltau(order, values)[1], abs=1e-12)
        tied = np.append(np.round(values[1:]), 9.0)
        assert kendall(tied) == pytest.approx(stats.kendalltau(order, tied)[1], abs=1e-12)
        samples = [np.round(RNG.normal(slope * number, size=count + number), 1) for number in range(3)]
        assert kruskal(samples) == pytest.approx(stats.kruskal(*samples)[1], abs=1e-12)


def test_quantiles_of_t_are_scipys_also_between_whole_degrees_of_freedom() -> None:
    for freedom in (0.5, 1, 2.5, 29.7, 1234.5):
        for p in (0.5, 0.02, 1e-6):
            assert student_quantile(p, freedom) == pytest.approx(stats.t.isf(p / 2, freedom), rel=1e-9)


def test_values_that_are_all_the_same_show_nothing() -> None:
    assert kendall(np.ones(8)) == kendall(np.ones(40)) == 1.0
    assert kruskal([np.ones(5), np.ones(6)]) == 1.0


def test_looking_for_drift_needs_no_scipy() -> None:
    code = "import sys; from harness.analyse import drift, likeness, summarise; print('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
