"""Means over pairs of images, such as those of MMD and of a forced choice, under a bootstrap of images or of groups."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np


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
        table, self.rows, row_sizes = _merged(values, np.asarray(rows))
        turned, self.columns, column_sizes = _merged(table.T, np.asarray(columns))
        self.sums, self.numbers = turned.T, np.outer(row_sizes, column_sizes).astype(float)
        self.both, at_row, at_column = np.intersect1d(self.rows, self.columns, return_indices=True)
        self.within = self.sums[at_row, at_column], self.numbers[at_row, at_column]
        self.of_one_copy = self.within
        if without_own:
            own = _merged(np.diag(values)[:, None], np.asarray(rows))[0][:, 0], row_sizes
            self.of_one_copy = self.within[0] - own[0], self.within[1] - own[1]

    def total(self, times: np.ndarray) -> tuple[float, float]:
        """Sum of the values and number of pairs where group g was drawn ``times[g]`` times."""
        row, column, both = times[self.rows], times[self.columns], times[self.both]
        found = [
            row @ table @ column - both**2 @ within + both @ once
            for table, within, once in zip((self.sums, self.numbers), self.within, self.of_one_copy)
        ]
        return float(found[0]), float(found[1])

    def mean(self, times: np.ndarray) -> float:
        """Mean of the values of all pairs, NaN for none."""
        total, number = self.total(times)
        return total / number if number else float("nan")


def _merged(values: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of one group added up, the numbers of the groups, and how many rows each has."""
    order = np.argsort(groups, kind="stable")
    names, starts, sizes = np.unique(groups[order], return_index=True, return_counts=True)
    return np.add.reduceat(values[order], starts, axis=0), names, sizes
