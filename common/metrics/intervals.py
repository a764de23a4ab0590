"""
Intervals of 95 %, all of them: by case, by cluster (subject), by fold, of shares, and where a bootstrap is wrong.

The bootstrap is NumPy's and not ``scipy.stats.bootstrap``: that draws all resamples of one set before those of the
next, which would change the published intervals of two sets, and it knows no clusters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
from scipy.stats import binomtest, norm
from scipy.stats import t as student

from .groups import drawn_together, group_numbers

_TAIL = 0.5 - 0.5 * 0.95  # cut off at each end, as it is rounded
_LEAST_KEPT = 0.01  # of the resamples that a statistic may refuse


def _mean(rows: np.ndarray) -> float:
    return float(rows.mean())


def percentile_interval(draws: Sequence[float] | np.ndarray, sizes: Sequence[int] = ()) -> list[float]:
    """
    Percentile interval of a bootstrap, a little wider where there are few cases.

    A resample of n cases has a variance too small by (n - 1) / n, and knows nothing of the tails of Student's t: of 27
    subjects, plain percentiles hold the truth in 91 % of cases instead of 95 %
    (``benchmarks/interval_coverage.py``). So percentiles further out are taken.

    Args:
        draws: of the statistic, (n,).
        sizes: numbers of cases (or clusters) in the sets that were drawn from, each at least 2; none for plain
            percentiles.

    Returns:
        ``[low, high]``, with equal shares of the draws cut off at both ends.

    Source: Hesterberg 2015, section 4.3 (expanded percentile interval); of several sets, the degrees of freedom add up
    and the smallest set gives the factor.

    Example:
        >>> draws = np.arange(1001)
        >>> [[round(v) for v in percentile_interval(draws, sizes=sizes)] for sizes in ((), (1000,), (27,))]
        [[25, 975], [25, 975], [18, 982]]
    """
    tail = _TAIL
    if sizes:
        freedom, least = sum(size - 1 for size in sizes), min(sizes)
        tail = float(norm.cdf(student.ppf(tail, freedom) * math.sqrt(least / (least - 1))))
    return [float(v) for v in np.percentile(draws, [100 * tail, 100 - 100 * tail])]


def bootstrap_interval(
    values: Sequence[Any] | np.ndarray,
    statistic: Callable[[np.ndarray], float] = _mean,
    seed: int = 0,
    resamples: int = 1000,
    clusters: Sequence[Hashable] | np.ndarray | None = None,
) -> list[float] | None:
    """
    Bootstrap interval of 95 % (``percentile_interval``) over cases, or over clusters of cases.

    Several images of one subject say less than as many subjects. With ``clusters``, whole subjects are drawn, each
    with all its cases.

    Args:
        values: one row a case, (n,) or (n, k).
        statistic: rows, drawn with replacement -> number.
        seed: of the draws.
        resamples: number of draws.
        clusters: name of the subject of each case, n of them; None where each case stands for itself.

    Returns:
        ``[low, high]``, or None for fewer than two cases or clusters.

    Raises:
        ValueError: when there is not one cluster name a case.

    Source: Efron 1979; Davison and Hinkley 1997, section 3.8 (clusters).
    """
    rows = np.asarray(values, dtype=np.float64)
    if clusters is None:
        return bootstrap_interval_of_sets([rows], statistic, seed, resamples)
    if len(clusters) != len(rows):
        raise ValueError(f"One cluster a case was expected, got {len(clusters)} for {len(rows)} cases.")
    members: dict[Hashable, list[int]] = {}
    for index, name in enumerate(clusters):
        members.setdefault(name, []).append(index)
    cases = [rows[indices] for indices in members.values()]

    def of_clusters(drawn: np.ndarray) -> float:
        return statistic(np.concatenate([cases[int(i)] for i in drawn]))

    return bootstrap_interval_of_sets([np.arange(len(cases))], of_clusters, seed, resamples)


def bootstrap_interval_of_sets(
    sets: Sequence[Sequence[Any] | np.ndarray],
    statistic: Callable[..., float | None],
    seed: int = 0,
    resamples: int = 1000,
) -> list[float] | None:
    """
    Bootstrap interval of 95 % (``percentile_interval``) of a statistic of independent sets, each drawn by itself.

    Args:
        sets: one row a case each, (n_i,) or (n_i, k).
        statistic: called with the drawn rows of every set; None where a draw cannot be used, which is then repeated.
        seed: of the draws.
        resamples: number of draws.

    Returns:
        ``[low, high]``, or None for fewer than two cases in a set, no resamples, or a statistic that refuses
        nearly every draw.

    Source: Efron 1979.
    """
    rows = [np.asarray(values, dtype=np.float64) for values in sets]
    if min(len(part) for part in rows) < 2 or resamples < 1:
        return None
    rng = np.random.default_rng(seed)
    drawn: list[float] = []
    for _ in range(math.ceil(resamples / _LEAST_KEPT)):
        value = statistic(*(part[rng.integers(0, len(part), len(part))] for part in rows))
        if value is not None:
            drawn.append(value)
        if len(drawn) == resamples:
            return percentile_interval(drawn, sizes=[len(part) for part in rows])
    return None


def resampled_sums(sums: np.ndarray, seed: int = 0, resamples: int = 1000) -> np.ndarray:
    """
    Sums over clusters that are drawn with replacement: a fast cluster bootstrap of scores that are made of counts.

    Args:
        sums: counts, or other sums over the cases, of each cluster, (clusters, k), or (m, clusters, k) for m
            classifiers of the same cases, which are drawn together.
        seed: of the draws.
        resamples: number of draws.

    Returns:
        (resamples, k), or (resamples, m, k); ``percentile_interval`` of a score of them is its interval.

    Source: Davison and Hinkley 1997, section 3.8.
    """
    rng = np.random.default_rng(seed)
    clusters = sums.shape[-2]
    times = rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=resamples)
    return np.einsum("rg,...gk->r...k", times, sums, optimize=True)


def fold_interval(values: Sequence[float] | np.ndarray, test_to_train: float = 0.0) -> list[float] | None:
    """
    Interval of the mean over folds (or runs, or seeds) by Student's t.

    Networks of a cross-validation share training images, so their scores scatter less than those of independent runs;
    ``test_to_train`` corrects the variance for that.

    Args:
        values: a score a fold, (k,).
        test_to_train: held-out over training cases of a fold, such as 1/4 for five folds; 0 for independent runs.

    Returns:
        ``[low, high]``, or None for fewer than two folds.

    Source: Student 1908; Nadeau and Bengio 2003, eq. 9 (correction).
    """
    scores = np.asarray(values, dtype=np.float64)
    k = len(scores)
    quantile = float(student.ppf(0.975, max(1, k - 1)))
    return _around_mean(scores, quantile * math.sqrt(1 / k + test_to_train)) if k > 1 else None


def normal_interval(values: Sequence[float] | np.ndarray) -> list[float] | None:
    """``[low, high]`` of the mean of many independent values, (n,), by the normal approximation; None below two."""
    terms = np.asarray(values, dtype=np.float64)
    quantile = float(norm.ppf(0.975))
    return _around_mean(terms, quantile / len(terms) ** 0.5) if len(terms) > 1 else None


def _around_mean(values: np.ndarray, deviations: float) -> list[float]:
    mean, half = float(values.mean()), deviations * float(values.std(ddof=1))
    return [mean - half, mean + half]


def jackknife_interval(value: float, left_out: Sequence[float], ratios: Sequence[float]) -> list[float] | None:
    """
    Interval of 95 % by the jackknife over groups of cases: each is left out once.

    It shows the scatter over cases, around the value; a bias of few cases is not in it.

    Args:
        value: of all cases.
        left_out: value without each of g groups.
        ratios: number of all cases over the number in each group.

    Returns:
        ``[low, high]``, or None for fewer than two groups.

    Source: Busing, Meijer, van der Leeden 1999, eq. 8 and 9 (groups of different sizes); Student's t with g - 1
    degrees of freedom.
    """
    g = len(left_out)
    if g < 2:
        return None
    centre = g * value - math.fsum((1 - 1 / h) * v for h, v in zip(ratios, left_out))
    pseudo_values = [h * value - (h - 1) * v for h, v in zip(ratios, left_out)]
    variance = math.fsum((p - centre) ** 2 / (h - 1) for h, p in zip(ratios, pseudo_values)) / g
    half = float(student.ppf(0.975, g - 1)) * math.sqrt(variance)
    return [value - half, value + half]


def subsampling_interval(
    statistic: Callable[..., float],
    sets: Sequence[Any],
    value: float,
    seed: int = 0,
    draws: int = 100,
    most: int = 500,
    clusters: Sequence[Sequence[Hashable]] | None = None,
) -> list[float]:
    """
    Interval of 95 % of a statistic of sets, from random parts of all of them drawn without replacement.

    For statistics of nearest neighbours: a bootstrap draws images twice, and a copy is its own neighbour at distance 0.
    The scatter of the parts, corrected for their size, is put around the value of the whole set, in equal measure on
    both sides: the parts of a share near 1 scatter more below than above, and an interval that copies this lies too low
    (``benchmarks/interval_coverage.py``).

    Args:
        statistic: a part of each set -> number.
        sets: tensors or arrays, (n_i, ...).
        value: of the whole sets.
        seed: of the draws.
        draws: number of parts.
        most: cases in the part of the largest set.
        clusters: what each case of each set belongs to, one sequence a set: parts hold whole clusters, the same of all
            sets where these have clusters in common.

    Returns:
        ``[low, high]``, around ``value``, not clipped.

    Source: Politis, Romano, Wolf 1999 (subsampling); the factor is sqrt(f / (1 - f)) for parts of the share f.
    """
    rng = np.random.default_rng(seed)
    share = min(0.5, most / max(len(cases) for cases in sets))
    members = [] if clusters is None else group_numbers([len(own) for own in clusters], clusters)
    drawn_from = drawn_together(members) if members else []

    def some(size: int) -> np.ndarray:
        return rng.permutation(size)[: math.ceil(share * size)]

    def part() -> list[Any]:
        if not members:
            return [cases[some(len(cases))] for cases in sets]
        drawn = np.concatenate([names[some(len(names))] for names in drawn_from])
        return [cases[np.flatnonzero(np.isin(member, drawn))] for cases, member in zip(sets, members)]

    values = np.array([statistic(*part()) for _ in range(draws)], dtype=np.float64)
    low, high = np.percentile(values, [2.5, 97.5])
    half = float(high - low) / 2 * math.sqrt(share / (1 - share))
    return [value - half, value + half]


def binomial_interval(k: int, n: int) -> list[float]:
    """
    Exact interval of 95 % of a probability from ``k`` successes in ``n`` independent trials.

    Returns:
        ``[low, high]``, in [0, 1].

    Raises:
        ValueError, TypeError: for counts that are not whole numbers with 0 <= k <= n and n >= 1.

    Source: Clopper and Pearson 1934; computed by ``scipy.stats.binomtest``.
    """
    found = binomtest(k, n).proportion_ci(0.95, method="exact")
    return [float(found.low), float(found.high)]
