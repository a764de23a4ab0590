"""Exact binomial interval and p-value, for shares of cases: accuracies, 2AFC, copies found."""

from __future__ import annotations

from scipy.stats import binomtest

_ALTERNATIVES = ("greater", "less", "two-sided")


def binomial_interval(k: int, n: int, level: float = 0.95) -> list[float]:
    """
    Exact interval of a probability from ``k`` successes in ``n`` independent trials.

    It holds the true probability at least as often as ``level`` says, whatever that probability is; so it is a little
    wide for small n. No success gives a lower end of 0, no failure an upper end of 1.

    Args:
        k: successes, 0 to n.
        n: trials, at least 1.
        level: share of such intervals that hold the truth, in (0, 1).

    Returns:
        ``[low, high]``, in [0, 1].

    Raises:
        ValueError: for counts that are not whole numbers with 0 <= k <= n and n >= 1, or another level.

    Source: Clopper and Pearson 1934; computed by ``scipy.stats.binomtest``.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}.")
    found = binomtest(*_counts(k, n)).proportion_ci(confidence_level=level, method="exact")
    return [float(found.low), float(found.high)]


def binomial_p_value(k: int, n: int, p: float = 0.5, alternative: str = "greater") -> float:
    """
    Probability of a result at least as extreme as ``k`` of ``n`` when each trial succeeds with probability ``p``.

    Args:
        k: successes, 0 to n.
        n: trials, at least 1.
        p: probability under the null hypothesis, in [0, 1]; 0.5 for two choices.
        alternative: "greater" (k or more), "less" (k or fewer) or "two-sided" (outcomes no more likely than k).

    Returns:
        The p-value, in [0, 1].

    Raises:
        ValueError: for counts that are not whole numbers with 0 <= k <= n and n >= 1, another p or alternative.

    Source: the exact binomial test, by ``scipy.stats.binomtest``.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"p must lie in [0, 1], got {p}.")
    if alternative not in _ALTERNATIVES:
        raise ValueError(f"alternative must be one of {_ALTERNATIVES}, got {alternative!r}.")
    return float(binomtest(*_counts(k, n), p=p, alternative=alternative).pvalue)


def _counts(k: int, n: int) -> tuple[int, int]:
    if int(k) != k or int(n) != n or not 0 <= k <= n or n < 1:
        raise ValueError(f"Whole numbers with 0 <= k <= n and n >= 1 were expected, got k = {k} and n = {n}.")
    return int(k), int(n)
