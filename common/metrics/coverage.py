"""Improved precision and recall, density and coverage: how much of each set lies among the other, in feature space."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..features.feature_sets import FeatureSetMetric
from ..features.features import FeatureNetwork
from .intervals import subsampling_interval

QUANTITIES = {"precision": 3, "recall": 3, "density": 5, "coverage": 5}
_ELEMENTS = 2**22  # of a block of distances: 32 MiB in float64
_ROUNDING = 1e-12


class PrecisionRecall(NamedTuple):
    """Share of generated images among the real ones, and of real images among the generated; each in [0, 1]."""

    precision: float
    recall: float


class DensityCoverage(NamedTuple):
    """Real neighbourhoods a generated image lies in, over k; share of real neighbourhoods that hold a generated one."""

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
    real, generated = checked_features(real, generated, k)
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
    real, generated = checked_features(real, generated, k, least_generated=1)
    inside = torch.zeros(len(real), dtype=torch.long)
    radii = _squared_radii(real, k)
    for rows, squared in _blocks(real, generated):
        inside[rows] = (squared <= radii[rows, None]).sum(1)
    return DensityCoverage(float(inside.sum()) / (k * len(generated)), float((inside > 0).double().mean()))


def checked_features(
    real: Tensor, generated: Tensor, k: int = 0, least_generated: int | None = None
) -> tuple[Tensor, Tensor]:
    """
    Both sets as float64 on the CPU, less the mean of the real ones, which makes squared distances more exact.

    Args:
        real: (n, d), n above k.
        generated: (m, d), at least ``least_generated``, by default above k.
        k: neighbours that are looked for.
        least_generated: smallest m.

    Raises:
        ValueError: for k below 0, too few images, other shapes, NaN or infinity.
    """
    if real.ndim != 2 or generated.ndim != 2 or real.shape[1] != generated.shape[1]:
        shapes = f"{tuple(real.shape)} and {tuple(generated.shape)}"
        raise ValueError(f"Two sets of vectors of one length were expected, got {shapes}.")
    least = k + 1 if least_generated is None else least_generated
    if len(real) <= k or len(generated) < least:
        raise ValueError(
            f"At least {k + 1} real and {least} generated images are needed, got {len(real)} and {len(generated)}."
        )
    if not bool(torch.isfinite(real).all() and torch.isfinite(generated).all()):
        raise ValueError("Features hold NaN or infinity.")
    real, generated = real.detach().cpu().double(), generated.detach().cpu().double()
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


def _blocks(a: Tensor, b: Tensor) -> Any:
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

    Args:
        features: the network and its preprocessing; its name stands in the result.
        quantity: "precision", "recall", "density" or "coverage".
        k: neighbour that gives the radius; None for the papers' 3 (precision, recall) and 5 (density, coverage).
        seed: of the interval's draws.
        draws: of parts of the sets for the interval; 0 for none.

    Raises:
        ValueError: for another quantity, or k below 1.

    Source: Kynkäänniemi et al. 2019; Naeem et al. 2020.
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
        self.quantity, self.k, self.seed, self.draws = quantity, QUANTITIES[quantity] if k is None else k, seed, draws
        if self.k < 1:
            raise ValueError(f"k must be at least 1, got {k}.")

    @property
    def label(self) -> str:
        """Such as ``coverage[cxr_v1]``."""
        return f"{self.quantity}[{self.features.label}]"

    def _evaluate(self, real: Tensor, generated: Tensor) -> dict[str, Any]:
        return coverage_report(real, generated, self.quantity, self.k, self.seed, self.draws)


def coverage_report(
    real: Tensor, generated: Tensor, quantity: str, k: int | None = None, seed: int = 0, draws: int = 100
) -> dict[str, Any]:
    """
    One of the four quantities with its interval.

    Args:
        real: (n, d).
        generated: (m, d).
        quantity: "precision", "recall", "density" or "coverage".
        k: neighbour that gives the radius; None for the papers'.
        seed: of the interval's draws.
        draws: of parts of the sets; 0 for no interval. Sets whose halves have k images or fewer get none either.

    Returns:
        ``value``, ``k``, ``interval95`` (None without one) and how it was found.
    """
    k = QUANTITIES[quantity] if k is None else k
    function: Any = precision_recall if quantity in PrecisionRecall._fields else density_coverage

    def statistic(real: Tensor, generated: Tensor) -> float:
        return float(getattr(function(real, generated, k), quantity))

    value = statistic(real, generated)
    result: dict[str, Any] = {"value": value, "k": k, "interval95": None}
    if draws and min(len(real), len(generated)) // 2 > k:
        top = math.inf if quantity == "density" else 1.0
        low, high = subsampling_interval(statistic, (real, generated), value, seed, draws)
        result["interval95"] = [max(0.0, low), min(top, high)]
        result["interval_by"] = f"{draws} parts of at most half of each set, without replacement, seed {seed}"
    return result
