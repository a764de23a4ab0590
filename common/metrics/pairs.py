"""Means over pairs of images, such as those of MMD and of a forced choice, under a bootstrap of images or of groups."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from .intervals import bootstrap_interval


class PairSums:
    """
    Sums of a value of pairs, by the groups of their images, for a bootstrap that draws groups.

    A group that is drawn t times stands there t times. Its copies are not paired with each other, as an image is not
    paired with itself: that would give the pairs of one group, which are alike, t² times instead of t times their
    weight. With groups of one image this is the U-statistic of the images.

    Args:
        values: of each pair, (n, m).
        rows: number of the group of each row, (n,).
        columns: of each column, (m,), in the same numbering.
        without_own: leave out the pairs (i, i), of an image with itself or with its own counterpart.

    Source: Efron 1979; Davison and Hinkley 1997, section 3.8 (clusters).

    Example:
        >>> pairs = PairSums(np.arange(9.0).reshape(3, 3), [0, 0, 1], [0, 0, 1], without_own=True)
        >>> pairs.total(np.array([1, 1])), pairs.total(np.array([2, 1]))  # of group 0, 1 + 3 once or twice
        ((24.0, 6.0), (48.0, 12.0))
    """

    def __init__(
        self,
        values: np.ndarray,
        rows: Sequence[Hashable] | np.ndarray,
        columns: Sequence[Hashable] | np.ndarray,
        without_own: bool = False,
    ) -> None:
        table, self.rows, self.row_sizes = _merged(values, np.asarray(rows))
        turned, self.columns, self.column_sizes = _merged(table.T, np.asarray(columns))
        self.sums = turned.T
        self.both, at_row, at_column = np.intersect1d(self.rows, self.columns, return_indices=True)
        self.within = self.sums[at_row, at_column], self.row_sizes[at_row] * self.column_sizes[at_column]
        self.of_one_copy = self.within
        if without_own:
            own, _, sizes = _merged(np.diag(values), np.asarray(rows))
            self.of_one_copy = self.within[0] - own, self.within[1] - sizes

    def total(self, times: np.ndarray) -> tuple[float, float]:
        """Sum of the values and number of pairs where group g was drawn ``times[g]`` times."""
        row, column, both = times[self.rows], times[self.columns], times[self.both]
        every = row @ self.sums @ column, (row @ self.row_sizes) * (column @ self.column_sizes)
        found = [
            drawn - both**2 @ within + both @ once for drawn, within, once in zip(every, self.within, self.of_one_copy)
        ]
        return float(found[0]), float(found[1])

    def mean(self, times: np.ndarray) -> float:
        """Mean of the values of all pairs, NaN for none."""
        total, number = self.total(times)
        return total / number if number else float("nan")


def share_won(
    sides: Sequence[tuple[np.ndarray, np.ndarray]],
    groups: Sequence[tuple[np.ndarray, np.ndarray]],
    seed: int = 0,
    resamples: int = 1000,
) -> tuple[float, list[float] | None]:
    """
    How often the first score of a pair is the higher one, ties half, with its interval over groups.

    Args:
        sides: scores that are paired with each other, (n,) and (m,); several such tables, whose pairs are counted
            together.
        groups: numbers of the groups of each, such as subjects, from 0 in one numbering; a group is drawn with all its
            scores.
        seed: of the draws.
        resamples: number of draws.

    Returns:
        The share of pairs, which of one table is the area under a ROC curve, and ``[low, high]``, or None.

    Source: Hanley and McNeil 1982; Rutter 2000 (bootstrap of areas for several scores of a patient).

    Example:
        >>> share_won([(np.array([1.0, 3.0]), np.array([0.0, 2.0]))], [(np.arange(2), np.arange(2))], resamples=0)
        (0.75, None)
    """
    tables = [PairSums((np.sign(first[:, None] - second) + 1) / 2, *of) for (first, second), of in zip(sides, groups)]
    names = np.unique(np.concatenate([one for of in groups for one in of]))

    def share(drawn: np.ndarray) -> float:
        times = np.bincount(drawn.astype(int), minlength=names[-1] + 1).astype(float)
        won, pairs = np.sum([table.total(times) for table in tables], axis=0)
        return float(won / pairs) if pairs else 0.5

    return share(names), bootstrap_interval(names, share, seed, resamples)


def _merged(values: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of one group added up, the numbers of the groups, and how many rows each has; no copy of single rows."""
    if (np.diff(groups) > 0).all():
        return values, groups, np.ones(len(groups))
    order = np.argsort(groups, kind="stable")
    names, starts, sizes = np.unique(groups[order], return_index=True, return_counts=True)
    return np.add.reduceat(values[order], starts, axis=0), names, sizes.astype(float)
