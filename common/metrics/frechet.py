"""Fréchet distance of features (FID), from means and covariances that are gathered in one pass."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .base import FeatureSetMetric, gathered
from .intervals import jackknife_interval

if TYPE_CHECKING:
    from ..features.features import FeatureNetwork

# Of more features than this, ten more distances take minutes and ten groups of statistics gigabytes.
_MOST_FEATURES_FOR_GROUPS = 512


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

    >>> statistics = GaussianStatistics(1)
    >>> statistics.update(torch.tensor([[1.0], [3.0]]))
    >>> float(statistics.mean), float(statistics.covariance)
    (2.0, 2.0)
    """

    def __init__(self, size: int) -> None:
        self.n = 0
        self.mean = torch.zeros(size, dtype=torch.float64)
        self.scatter = torch.zeros(size, size, dtype=torch.float64)

    def update(self, features: Tensor) -> None:
        """Take in vectors, (N, d), of any float dtype; raises ValueError for another shape, NaN or infinity."""
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


Groups = list[
    GaussianStatistics
]  # of the cases of one set, dealt out, so that an interval needs no feature that is gone


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


def fid(generated: Tensor, real: Tensor) -> float:
    """
    Fréchet distance between two sets of features.

    Args:
        generated: (n, d).
        real: (m, d).

    Raises:
        ValueError: for fewer than two vectors in a set, other shapes, NaN.

    Source: Heusel et al. 2017, eq. 6.
    """
    statistics = [GaussianStatistics(features.shape[-1]) for features in (generated, real)]
    for own, features in zip(statistics, (generated, real)):
        own.update(features)
    return _distance(*statistics)


def fid_interval(generated: Groups, real: Groups, value: float) -> list[float] | None:
    """
    Interval of 95 % of ``fid`` by the jackknife over groups of cases; the bias of few cases is not in it.

    Args:
        generated: statistics of g groups.
        real: statistics of g groups; group i is left out of both sets together.
        value: distance of all cases.

    Returns:
        ``[low, high]``, low not below 0; None for one group, or when fewer than two vectors would be left.
    """
    left_out = _left_out(generated, real)
    interval = left_out and jackknife_interval(value, *left_out)
    return [max(0.0, interval[0]), interval[1]] if interval else None


def _left_out(generated: Groups, real: Groups) -> tuple[list[float], list[float]] | None:
    """Distance without each group that has cases, and all cases over those of it; None where too few are left."""
    sides = (generated, real)
    used = [i for i in range(len(real)) if all(own[i].n for own in sides)]
    kept = {i: [_merged(own, without=i) for own in sides] for i in used}
    if any(own.n < 2 for left in kept.values() for own in left):
        return None
    total = sum(part.n for own in sides for part in own)
    return [_distance(*left) for left in kept.values()], [total / sum(own[i].n for own in sides) for i in used]


def _distance(a: GaussianStatistics, b: GaussianStatistics) -> float:
    return frechet_distance(a.mean, a.covariance, b.mean, b.covariance)


def _merged(parts: Iterable[GaussianStatistics], without: int | None = None) -> GaussianStatistics:
    parts = list(parts)
    total = GaussianStatistics(len(parts[0].mean))
    for index, part in enumerate(parts):
        if index != without:
            total.merge(part)
    return total


class FrechetDistanceMetric(FeatureSetMetric):
    """
    FID between generated and real images, 2D or 3D, streaming: features are merged into means and covariances.

    Memory does not grow with the number of images: ten groups of statistics (d + 1) d float64 a set, for the interval.
    It warns where there are fewer images than features.

    Args:
        features: the network and its preprocessing; its name stands in the result.
        groups: of the jackknife interval, 1 for none; None for 10, or for none above 512 features.

    Raises:
        ValueError: for fewer than one group.

    Source: Med-DDPM, section III (3D-FID with histogram equalisation); Heusel et al. 2017.

    >>> class Means:
    ...     label, describe = "means", dict
    ...     def __call__(self, images):
    ...         return images.flatten(2).mean(2)
    >>> metric = FrechetDistanceMetric(Means())
    >>> _ = metric(torch.ones(3, 1, 4, 4), torch.zeros(3, 1, 4, 4))
    >>> metric.label, float(metric.aggregate())
    ('fid[means]', 1.0)
    """

    name = "fid"

    def __init__(self, features: FeatureNetwork, groups: int | None = None) -> None:
        if groups is not None and groups < 1:
            raise ValueError(f"groups must be at least 1, got {groups}.")
        self.groups = groups
        super().__init__(features)

    def reset(self) -> None:
        """Forget all features."""
        super().reset()
        self._statistics: tuple[Groups, Groups] = ([], [])

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **kwargs: Any) -> Tensor:
        if y is None:
            raise ValueError(f"{self.label} needs generated and real images.")
        self._result = None
        for side, (own, images) in enumerate(zip(self._statistics, (y_pred, y))):
            names = self.take_groups(side, len(images))
            self._groups[side].extend(names)
            # Pairs stay together, and a group does not hang on the order or the process in which an image is seen.
            seen = y if len(y) == len(y_pred) else images
            marks = [_mark(image) if name is None else zlib.crc32(name.encode()) for image, name in zip(seen, names)]
            for mark, vector in zip(marks, self.features(images)):  # type: ignore[misc]
                if not own:
                    groups = self.groups or (10 if len(vector) <= _MOST_FEATURES_FOR_GROUPS else 1)
                    own.extend(GaussianStatistics(len(vector)) for _ in range(groups))
                own[mark % len(own)].update(vector[None])
        return torch.full((len(y_pred), 1), torch.nan, dtype=torch.float64)

    def report(self) -> dict[str, Any]:
        """Value, interval, number of images and features, network; a warning for fewer images than features."""
        if self._result is None:
            everyone = [pair for pair in gathered(self._statistics) if all(pair)]
            if not everyone:
                raise ValueError(f"{self.label}: no images seen.")
            generated, real = ([_merged(parts) for parts in zip(*sides)] for sides in zip(*everyone))
            self._all = (generated, real)
            self._result = self._measured(generated, real)
        return self._result

    def difference(self, other: FrechetDistanceMetric) -> dict[str, Any]:
        """
        This distance minus that of another set of images of the same real ones, which were seen with each.

        Returns:
            "value", "interval95" of the jackknife over the same groups of pairs (None where there is none), and "n".
        """
        value = self.report()["value"] - other.report()["value"]
        own, others = _left_out(*self._all), _left_out(*other._all)
        interval = None
        if own and others and own[1] == others[1]:
            interval = jackknife_interval(value, [a - b for a, b in zip(own[0], others[0])], own[1])
        return {"value": value, "interval95": interval, "n": sum(part.n for part in self._all[1])}

    def _measured(self, generated: Groups, real: Groups) -> dict[str, Any]:
        a, b = _merged(generated), _merged(real)
        value = _distance(a, b)
        interval = fid_interval(generated, real, value)
        result = {"value": value, "interval95": interval, **self._facts(a.n, b.n, len(b.mean))}
        if interval:
            kept = "" if self.groups_of_sets() is None else ", cases of one group together"
            how = f"jackknife over {len(real)} groups of images{kept}; the bias of few images is not in it"
            result["interval_by"] = how
        if min(a.n, b.n) < len(b.mean):
            result["warning"] = (
                f"{min(a.n, b.n)} images for {len(b.mean)} features: the covariances are singular and the value is "
                "biased upwards; compare it only with values of the same n and network."
            )
            warnings.warn(f"{self.label}: {result['warning']}", stacklevel=3)
        return result


def _mark(image: Tensor) -> int:
    """A number that is the same for the same image."""
    return zlib.crc32(image.detach().cpu().float().contiguous().numpy().tobytes())
