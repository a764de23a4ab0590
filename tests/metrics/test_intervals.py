from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binom

from common.metrics.intervals import binomial_interval, binomial_p_value


@pytest.mark.parametrize(("k", "n"), [(1, 10), (27, 50), (49, 50), (3, 1000)])
def test_interval_agrees_with_quantiles_of_the_beta_distribution(k, n):
    expected = [beta.ppf(0.025, k, n - k + 1), beta.ppf(0.975, k + 1, n - k)]
    assert binomial_interval(k, n) == pytest.approx(expected, rel=1e-9)


def test_no_success_and_no_failure_have_closed_forms():
    assert binomial_interval(0, 20) == pytest.approx([0, 1 - 0.025 ** (1 / 20)])
    assert binomial_interval(20, 20) == pytest.approx([0.025 ** (1 / 20), 1])
    assert binomial_interval(0, 1, level=0.5) == pytest.approx([0, 0.75])


def test_interval_holds_the_truth_at_least_as_often_as_it_says():
    n = 30
    intervals = np.array([binomial_interval(k, n) for k in range(n + 1)])
    for p in (0.02, 0.1, 0.37, 0.5, 0.93):
        holds = (intervals[:, 0] <= p) & (p <= intervals[:, 1])
        assert binom.pmf(np.arange(n + 1), n, p)[holds].sum() >= 0.95


def test_p_values_are_sums_of_binomial_probabilities():
    n, k = 12, 9
    tail = sum(math.comb(n, j) for j in range(k, n + 1)) / 2**n
    assert binomial_p_value(k, n) == pytest.approx(tail)
    assert binomial_p_value(n - k, n, alternative="less") == pytest.approx(tail)
    assert binomial_p_value(k, n, alternative="two-sided") == pytest.approx(2 * tail)
    assert binomial_p_value(2, 2, p=0.1) == pytest.approx(0.01)
    assert binomial_p_value(0, 5) == 1


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_interval_and_p_value_agree_on_a_coin(counts):
    """The lower end of the 95 % interval lies above a half exactly where the one-sided p-value is below 0.025."""
    k, n = counts
    low, high = binomial_interval(k, n)
    assert 0 <= low <= k / n <= high <= 1
    assert (low > 0.5) == (binomial_p_value(k, n) < 0.025)


@pytest.mark.parametrize(("k", "n"), [(-1, 3), (4, 3), (0, 0), (1.5, 3)])
def test_impossible_counts_are_refused(k, n):
    with pytest.raises(ValueError, match="Whole numbers"):
        binomial_interval(k, n)
    with pytest.raises(ValueError, match="Whole numbers"):
        binomial_p_value(k, n)


def test_other_bad_input():
    with pytest.raises(ValueError, match="level"):
        binomial_interval(1, 2, level=95)
    with pytest.raises(ValueError, match="p must"):
        binomial_p_value(1, 2, p=2)
    with pytest.raises(ValueError, match="alternative"):
        binomial_p_value(1, 2, alternative="larger")
