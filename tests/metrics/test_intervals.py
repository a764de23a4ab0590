from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binom, binomtest, bootstrap, norm, ttest_1samp
from scipy.stats import t as student

from common.metrics.intervals import (
    binomial_interval,
    bootstrap_interval,
    bootstrap_interval_of_sets,
    fold_interval,
    jackknife_interval,
    normal_interval,
    percentile_interval,
    resampled_sums,
    subsampling_interval,
)


def share_that_holds(interval_of, draw, truth=0.0, times=200):
    """How often an interval of a seeded draw holds the truth."""
    intervals = [interval_of(draw(np.random.default_rng(seed))) for seed in range(times)]
    return np.mean([low <= truth <= high for low, high in intervals])


def subjects(rng, number=25, images=6):
    """Images that are alike within a subject, (number, images), of mean 0."""
    return rng.normal(size=(number, 1)) + 0.3 * rng.normal(size=(number, images))


def test_bootstrap_over_cases_is_scipys_at_a_level_for_few_cases():
    values = np.random.default_rng(0).normal(size=40) ** 2
    level = 1 - 2 * norm.cdf(student.ppf(0.025, 39) * (40 / 39) ** 0.5)
    chosen = {"n_resamples": 1000, "method": "percentile", "rng": np.random.default_rng(0)}
    theirs = bootstrap((values,), np.mean, confidence_level=level, **chosen)
    assert bootstrap_interval(values) == pytest.approx([*theirs.confidence_interval], rel=1e-12)
    assert percentile_interval(np.arange(5), sizes=[2]) == pytest.approx([0, 4])


@pytest.mark.parametrize("n", [10, 27, 200])
def test_the_bootstrap_holds_the_truth_with_few_cases_too(n):
    held = share_that_holds(lambda v: bootstrap_interval(v, resamples=400), lambda rng: rng.normal(size=n), times=400)
    assert 0.93 <= held <= 0.97


def test_bootstrap_over_clusters_holds_the_truth_where_that_over_cases_does_not():
    def by(cluster):
        names = np.repeat(np.arange(25), 6) if cluster else None
        return lambda v: bootstrap_interval(v.ravel(), resamples=200, clusters=names)

    assert share_that_holds(by(True), subjects) > 0.92
    assert share_that_holds(by(False), subjects) < 0.7


def test_clusters_of_one_case_are_cases_and_copies_do_not_count():
    values = subjects(np.random.default_rng(1))[:, 0]
    alone = bootstrap_interval(values)
    assert bootstrap_interval(values, clusters=[f"subject {i}" for i in range(25)]) == alone
    assert bootstrap_interval(np.tile(values, 4), clusters=np.tile(np.arange(25), 4)) == pytest.approx(alone)
    with pytest.raises(ValueError, match="One cluster a case"):
        bootstrap_interval(values, clusters=[1, 2])


def test_resampled_sums_are_a_bootstrap_over_clusters():
    values = subjects(np.random.default_rng(2))
    sums = np.stack([values.sum(1), np.full(25, 6.0)], axis=1)
    drawn = resampled_sums(sums, resamples=4000)
    slow = bootstrap_interval(values.ravel(), clusters=np.repeat(np.arange(25), 6))
    assert percentile_interval(drawn[:, 0] / drawn[:, 1]) == pytest.approx(slow, abs=0.05)
    both = resampled_sums(np.stack([sums, 2 * sums]), resamples=10)
    np.testing.assert_allclose(both[:, 1], 2 * drawn[:10])


def test_two_sets_are_drawn_one_by_one():
    a, b = np.random.default_rng(3).normal(size=(2, 30))

    def interval(pair):
        return bootstrap_interval_of_sets(pair, lambda x, y: x.mean() - y.mean(), resamples=200)

    rng = np.random.default_rng(0)
    by_hand = [a[rng.integers(0, 30, 30)].mean() - b[rng.integers(0, 30, 30)].mean() for _ in range(200)]
    assert interval((a, b)) == percentile_interval(by_hand, sizes=[30, 30])
    assert share_that_holds(interval, lambda rng: (rng.normal(size=30), 2 * rng.normal(size=50))) > 0.92
    assert bootstrap_interval_of_sets((a, b), lambda x, y: None, resamples=3) is None
    seen = iter([None, 1.0] * 9)
    assert bootstrap_interval_of_sets((a, b), lambda x, y: next(seen), resamples=5) == [1.0, 1.0]


def test_folds_have_students_interval_and_its_correction():
    scores = np.array([0.81, 0.84, 0.79, 0.86, 0.83])
    assert fold_interval(scores) == pytest.approx([*ttest_1samp(scores, 0).confidence_interval(0.95)])
    assert share_that_holds(fold_interval, lambda rng: rng.normal(size=5), times=1000) == pytest.approx(0.95, abs=0.02)
    widths = [np.ptp(fold_interval(scores, test_to_train=ratio)) for ratio in (0, 0.25)]
    assert widths[1] / widths[0] == pytest.approx(math.sqrt((1 / 5 + 1 / 4) / (1 / 5)))
    assert share_that_holds(normal_interval, lambda rng: rng.normal(size=60), times=1000) > 0.92


def test_jackknife_and_parts_of_a_mean_hold_it():
    def jackknife(v):
        left_out = [np.delete(v, np.s_[i::10]).mean() for i in range(10)]
        return jackknife_interval(v.mean(), left_out, [len(v) / len(v[i::10]) for i in range(10)])

    def parts(v):
        return subsampling_interval(np.mean, [v], v.mean())

    for interval in (jackknife, parts):
        assert share_that_holds(interval, lambda rng: rng.normal(size=47)) > 0.9


@pytest.mark.parametrize("interval", [bootstrap_interval, fold_interval, normal_interval])
def test_one_case_has_no_interval(interval):
    assert interval([1.0]) is None
    assert jackknife_interval(1.0, [1.0], [1.0]) is None
    assert bootstrap_interval([1.0, 2.0], resamples=0) is None


@pytest.mark.parametrize(("k", "n"), [(1, 10), (27, 50), (49, 50), (3, 1000)])
def test_interval_agrees_with_quantiles_of_the_beta_distribution(k, n):
    expected = [beta.ppf(0.025, k, n - k + 1), beta.ppf(0.975, k + 1, n - k)]
    assert binomial_interval(k, n) == pytest.approx(expected, rel=1e-9)


def test_no_success_and_no_failure_have_closed_forms():
    assert binomial_interval(0, 20) == pytest.approx([0, 1 - 0.025 ** (1 / 20)])
    assert binomial_interval(20, 20) == pytest.approx([0.025 ** (1 / 20), 1])


def test_interval_holds_the_truth_at_least_as_often_as_it_says():
    n = 30
    intervals = np.array([binomial_interval(k, n) for k in range(n + 1)])
    for p in (0.02, 0.1, 0.37, 0.5, 0.93):
        holds = (intervals[:, 0] <= p) & (p <= intervals[:, 1])
        assert binom.pmf(np.arange(n + 1), n, p)[holds].sum() >= 0.95


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_interval_and_p_value_agree_on_a_coin(counts):
    """The lower end of the 95 % interval lies above a half exactly where the one-sided p-value is below 0.025."""
    k, n = counts
    low, high = binomial_interval(k, n)
    assert 0 <= low <= k / n <= high <= 1
    assert (low > 0.5) == (binomtest(k, n, alternative="greater").pvalue < 0.025)


@pytest.mark.parametrize(("k", "n"), [(-1, 3), (4, 3), (0, 0), (1.5, 3)])
def test_impossible_counts_are_refused(k, n):
    with pytest.raises((ValueError, TypeError), match="must"):
        binomial_interval(k, n)
