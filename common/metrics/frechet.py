"""Fréchet distance between Gaussians, from statistics that are gathered in one pass."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .intervals import jackknife_interval


class GaussianStatistics:
    """
    Mean and covariance of feature vectors, in float64 and one pass; memory does not grow with their number.

    Batches are merged by their mean and scatter matrix rather than by sums of squares, which would cancel for
    features far from zero.

    Args:
        size: length d of a feature vector.

    Attributes:
        n: vectors seen.
        mean: (d,), float64.
        scatter: sum of (x - mean)(x - mean)^T, (d, d), float64.

    Source: Chan, Golub, LeVeque 1983, eq. 2.1 (merging of two sets).
    """

    def __init__(self, size: int) -> None:
        self.n = 0
        self.mean = torch.zeros(size, dtype=torch.float64)
        self.scatter = torch.zeros(size, size, dtype=torch.float64)

    def update(self, features: Tensor) -> None:
        """
        Args:
            features: (N, d), any float dtype.

        Raises:
            ValueError: for another shape, NaN or infinity.
        """
        if features.ndim != 2 or features.shape[1] != len(self.mean):
            raise ValueError(f"features must be (N, {len(self.mean)}), got {tuple(features.shape)}.")
        if not bool(torch.isfinite(features).all()):
            raise ValueError("features hold NaN or infinity; check the images and the feature network.")
        x = features.detach().cpu().double()
        batch = GaussianStatistics(len(self.mean))
        batch.n, batch.mean = len(x), x.mean(0)
        batch.scatter = (x - batch.mean).T @ (x - batch.mean)
        self.merge(batch)

    def merge(self, other: GaussianStatistics) -> None:
        """Take in what ``other`` has seen."""
        if other.n == 0:
            return
        total = self.n + other.n
        delta = other.mean - self.mean
        self.mean = self.mean + delta * (other.n / total)
        self.scatter = self.scatter + other.scatter + torch.outer(delta, delta) * (self.n * other.n / total)
        self.n = total

    @property
    def covariance(self) -> Tensor:
        """Unbiased covariance, (d, d), float64."""
        if self.n < 2:
            raise ValueError(f"A covariance needs at least two images, got {self.n}.")
        return self.scatter / (self.n - 1)

    def packed(self) -> Tensor:
        """Everything in one vector, (1 + d + d*d,), float64, as it travels between processes."""
        return torch.cat([torch.tensor([self.n], dtype=torch.float64), self.mean, self.scatter.flatten()])

    @classmethod
    def unpacked(cls, vector: Tensor, size: int) -> GaussianStatistics:
        """The statistics that ``packed`` wrote."""
        stats = cls(size)
        stats.n, stats.mean = int(vector[0]), vector[1 : 1 + size].clone()
        stats.scatter = vector[1 + size :].reshape(size, size).clone()
        return stats


Pair = tuple["GroupedStatistics", "GroupedStatistics"]


class GroupedStatistics:
    """
    Statistics of cases that are dealt out to a few groups, so that an interval needs no feature that is gone.

    Args:
        size: length d of a feature vector.
        groups: number of groups, at least 1; memory grows with it, not with the number of cases.
    """

    def __init__(self, size: int, groups: int = 1) -> None:
        self.parts = [GaussianStatistics(size) for _ in range(groups)]

    def update(self, features: Tensor, group: int) -> None:
        """Take in vectors (N, d) of one case, or of several, that belong to a group."""
        self.parts[group].update(features)

    def without(self, group: int | None = None) -> GaussianStatistics:
        """Statistics of all cases but those of ``group``; of all cases by default."""
        total = GaussianStatistics(len(self.parts[0].mean))
        for index, part in enumerate(self.parts):
            if index != group:
                total.merge(part)
        return total


def mean_distance(pairs: Sequence[Pair], without: int | None = None) -> float:
    """Mean Fréchet distance over pairs (generated, real) of statistics, one group of cases left out of all of them."""
    distances = []
    for pair in pairs:
        a, b = (own.without(without) for own in pair)
        distances.append(frechet_distance(a.mean, a.covariance, b.mean, b.covariance))
    return math.fsum(distances) / len(distances)


def frechet_interval(pairs: Sequence[Pair], value: float) -> list[float] | None:
    """
    Interval of 95 % of the (mean) Fréchet distance by the jackknife over groups of cases.

    Args:
        pairs: (generated, real) statistics in g groups each; group i is left out of all of them together.
        value: distance of all cases.

    Returns:
        ``[low, high]``, low not below 0; None for one group, or when fewer than two vectors would be left. The bias of
        few cases, which lifts the value, is not in it; see ``intervals.jackknife_interval``.
    """
    sides = [own for pair in pairs for own in pair]
    used = [i for i in range(len(sides[0].parts)) if all(own.parts[i].n for own in sides)]
    if len(used) < 2 or any(own.without(i).n < 2 for own in sides for i in used):
        return None
    total = sum(part.n for own in sides for part in own.parts)
    ratios = [total / sum(own.parts[i].n for own in sides) for i in used]
    interval = jackknife_interval(value, [mean_distance(pairs, i) for i in used], ratios)
    return interval and [max(0.0, interval[0]), interval[1]]


def frechet_distance(mean_a: Tensor, covariance_a: Tensor, mean_b: Tensor, covariance_b: Tensor) -> float:
    """
    Squared Fréchet distance of two Gaussians: |m_a - m_b|^2 + tr(A + B - 2 (A B)^(1/2)).

    tr (A B)^(1/2) is computed as the sum of the singular values of A^(1/2) B^(1/2), with both roots from symmetric
    eigendecompositions whose rounding errors around zero are set to zero. That is exact for covariances of any rank;
    ``scipy.linalg.sqrtm`` of the unsymmetric product is not, and turns complex or infinite when n < d.

    Args:
        mean_a: (d,).
        covariance_a: (d, d), symmetric and positive semidefinite.
        mean_b: (d,).
        covariance_b: (d, d).

    Returns:
        The distance, not negative, in squared units of the features.

    Raises:
        ValueError: for shapes that differ.

    Source: Dowson and Landau 1982, eq. 4; Heusel et al. 2017, eq. 6.
    """
    if mean_a.shape != mean_b.shape or covariance_a.shape != covariance_b.shape:
        raise ValueError(f"Features differ in size: {tuple(mean_a.shape)} and {tuple(mean_b.shape)}.")
    a, b = covariance_a.double(), covariance_b.double()
    delta = mean_a.double() - mean_b.double()
    cross = torch.linalg.svdvals(_root(a) @ _root(b)).sum()
    return max(0.0, float(delta @ delta + a.trace() + b.trace() - 2 * cross))


def _root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    # The root would lift a rounding error of 1e-16 to 1e-8.
    rounding = len(values) * torch.finfo(values.dtype).eps * float(values.abs().max())
    return (vectors * torch.where(values > rounding, values, 0.0).sqrt()) @ vectors.T
