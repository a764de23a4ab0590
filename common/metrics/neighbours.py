"""Improved precision and recall, density and coverage: how much of each set lies among the other, in feature space."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from .base import FeatureSetMetric, checked_sets
from .intervals import subsampling_interval

if TYPE_CHECKING:
    from ..features.features import FeatureNetwork

QUANTITIES = {"precision": 3, "recall": 3, "density": 5, "coverage": 5}
_ELEMENTS = 2**22  # of a block of distances: 32 MiB in float64
_ROUNDING = 1e-12


class PrecisionRecall(NamedTuple):
    """
    Share of generated images among the real ones, and of real images among the generated; each in [0, 1].

    >>> precision_recall(torch.arange(8.0)[:, None], torch.arange(4.0)[:, None], k=1).recall
    0.625
    """

    precision: float
    recall: float


class DensityCoverage(NamedTuple):
    """
    Real neighbourhoods a generated image lies in, over k; share of real neighbourhoods that hold a generated one.

    >>> density_coverage(torch.arange(8.0)[:, None], torch.arange(4.0)[:, None], k=1)
    DensityCoverage(density=2.75, coverage=0.625)
    """

    density: float
    coverage: float


def precision_recall(real: Tensor, generated: Tensor, k: int = 3) -> PrecisionRecall:
    """
    Improved precision and recall: the share of a set that lies within a ball of the other set.

    The ball of a vector reaches to its k-th nearest neighbour in its own set, that neighbour included. Both depend on
    the number of images; compare values of the same n, k and network only.

    Args:
        real: (n, d), n above k; computed in float64.
        generated: (m, d), m above k.
        k: neighbour that gives the radius.

    Raises:
        ValueError: for too few images, other shapes, NaN or infinity.

    Source: Kynkäänniemi et al. 2019, eq. 1 and 2, with their k.
    """
    real, generated = centred_sets(real, generated, k + 1, k + 1)
    return PrecisionRecall(_share_inside(generated, real, k), _share_inside(real, generated, k))


def density_coverage(real: Tensor, generated: Tensor, k: int = 5) -> DensityCoverage:
    """
    Density and coverage; only real images have balls, so that generated outliers cannot raise the result.

    Args:
        real: (n, d), n above k; computed in float64.
        generated: (m, d), at least one.
        k: neighbour that gives the radius of a real image's ball.

    Returns:
        Density, not negative, about 1 for equal distributions, more where generated images crowd where the real ones
        are dense; coverage in [0, 1], about 1 - 2^-k for equal distributions and n = m (0.97 at k = 5).

    Raises:
        ValueError: for too few images, other shapes, NaN or infinity.

    Source: Naeem et al. 2020, section 3. The sphere belongs to its ball, as in Kynkäänniemi et al.
    """
    real, generated = centred_sets(real, generated, k + 1, 1)
    inside = torch.zeros(len(real), dtype=torch.long)
    radii = _squared_radii(real, k)
    for rows, squared in _blocks(real, generated):
        inside[rows] = (squared <= radii[rows, None]).sum(1)
    return DensityCoverage(float(inside.sum()) / (k * len(generated)), float((inside > 0).double().mean()))


def centred_sets(real: Tensor, generated: Tensor, least_real: int, least_generated: int) -> tuple[Tensor, Tensor]:
    """``base.checked_sets`` less the mean of the real vectors, which makes squared distances more exact."""
    real, generated = checked_sets(real, generated, least_real, least_generated)
    mean = real.mean(0)
    return real - mean, generated - mean


def _share_inside(points: Tensor, centres: Tensor, k: int) -> float:
    radii = _squared_radii(centres, k)
    inside = [(squared <= radii[None]).any(1) for _, squared in _blocks(points, centres)]
    return float(torch.cat(inside).double().mean())


def _squared_radii(centres: Tensor, k: int) -> Tensor:
    """Squared distance of every vector to its k-th nearest neighbour, itself left out, (n,)."""
    radii = torch.empty(len(centres), dtype=torch.float64)
    for rows, squared in _blocks(centres, centres):
        squared[torch.arange(len(squared)), torch.arange(rows.start, rows.start + len(squared))] = torch.inf
        radii[rows] = squared.kthvalue(k, dim=1).values
    return radii


def _blocks(a: Tensor, b: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Squared distances of all vectors of ``b`` to some of ``a`` at a time: (rows of a, (rows, m))."""
    norm = (b**2).sum(1)
    step = max(1, _ELEMENTS // len(b))
    for start in range(0, len(a), step):
        rows = slice(start, start + step)
        sizes = (a[rows] ** 2).sum(1, keepdim=True) + norm
        squared = torch.addmm(sizes, a[rows], b.T, alpha=-2)
        # Equal vectors are at 0 exactly, so that duplicates are treated alike whatever the block.
        yield rows, torch.where(squared <= _ROUNDING * sizes, 0.0, squared)


class CoverageMetric(FeatureSetMetric):
    """
    Precision, recall, density or coverage of generated images among real ones.

    The interval is that of parts of at most half of each set; sets whose halves have k images or fewer get none.

    Args:
        features: the network and its preprocessing; its name stands in the result.
        quantity: "precision", "recall", "density" or "coverage".
        k: neighbour that gives the radius; None for the papers' 3 (precision, recall) and 5 (density, coverage).
        seed: of the interval's draws.
        draws: of parts of the sets for the interval; 0 for none.

    Raises:
        ValueError: for another quantity, or k below 1.

    Source: Kynkäänniemi et al. 2019; Naeem et al. 2020.

    >>> class Pixels:
    ...     label, describe = "pixels", dict
    ...     def __call__(self, images):
    ...         return images.flatten(1)
    >>> metric = CoverageMetric(Pixels(), "recall", k=1)
    >>> images = torch.arange(8.0).reshape(8, 1, 1, 1)
    >>> _ = metric(images[:4], images)  # the generated images reach from 0 to 3, with balls up to 4
    >>> metric.label, float(metric.aggregate())
    ('recall[pixels]', 0.625)
    """

    def __init__(
        self,
        features: FeatureNetwork,
        quantity: str = "coverage",
        k: int | None = None,
        seed: int = 0,
        draws: int = 100,
    ) -> None:
        super().__init__(features)
        if quantity not in QUANTITIES:
            raise ValueError(f"quantity must be one of {sorted(QUANTITIES)}, got {quantity!r}.")
        self.name, self.k, self.seed, self.draws = quantity, QUANTITIES[quantity] if k is None else k, seed, draws
        if self.k < 1:
            raise ValueError(f"k must be at least 1, got {k}.")

    def _measure(self, real: Tensor, generated: Tensor) -> dict[str, Any]:
        value = self._statistic(real, generated)
        result: dict[str, Any] = {"value": value, "k": self.k, "interval95": None}
        groups = self.groups_of_sets()
        least = min(len(real), len(generated)) // 2 if groups is None else min(map(_smallest_half, groups))
        if self.draws and least > self.k:
            top = math.inf if self.name == "density" else 1.0
            low, high = subsampling_interval(
                self._statistic, (real, generated), value, self.seed, self.draws, clusters=groups and groups[::-1]
            )
            of = "each set" if groups is None else "the groups of images"
            how = f"{self.draws} parts of at most half of {of}, without replacement, seed {self.seed}"
            result |= {"interval95": [max(0.0, low), min(top, high)], "interval_by": how}
        return result

    def _statistic(self, real: Tensor, generated: Tensor) -> float:
        function: Any = precision_recall if self.name in PrecisionRecall._fields else density_coverage
        return float(getattr(function(real, generated, self.k), self.name))


def _smallest_half(groups: Sequence[str]) -> int:
    """Images of the smaller half of the groups; 0 for a single group."""
    sizes = sorted(Counter(groups).values())
    return sum(sizes[: math.ceil(len(sizes) / 2)]) if len(sizes) > 1 else 0
