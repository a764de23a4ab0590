"""Maximum mean discrepancy between two sets: unbiased or in linear time, on pixels or on features."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .intervals import bootstrap_interval_of_sets, normal_interval
from .sets import VolumeSetMetric, centre_crop, common_size, in_order_of_mean

if TYPE_CHECKING:
    from ..features.features import FeatureNetwork

Kernel = Callable[[Tensor, Tensor], Tensor]
KERNELS = ("linear", "rbf")
ESTIMATORS = ("unbiased", "linear_time")


def mmd2_unbiased(x: Tensor, y: Tensor, kernel: Kernel) -> float:
    """
    Unbiased squared MMD of two sets; slightly negative values are possible where the sets agree.

    Args:
        x: (n, d), n at least 2; computed in float64.
        y: (m, d), m at least 2.
        kernel: (n, d), (m, d) -> (n, m).

    Raises:
        ValueError: for fewer than two rows, other shapes, NaN or infinity.

    Source: Gretton et al. 2012, eq. 3 (lemma 6).
    """
    x, y = _rows(x, y)
    return _weighted(_kernels(x, y, kernel), np.ones(len(x)), np.ones(len(y)))


def mmd2_bootstrap_interval(
    x: Tensor, y: Tensor, kernel: Kernel, seed: int = 0, resamples: int = 1000
) -> list[float] | None:
    """
    Percentile bootstrap interval of 95 % of ``mmd2_unbiased``, over the images of both sets.

    An image drawn twice is not paired with itself: its kernel of 1 would lift every resample above the estimate.
    Where the two sets come from one distribution the bootstrap is not consistent; then read the interval as the
    scatter of the estimate, not as a test.

    Args:
        x: (n, d), n at least 2.
        y: (m, d), m at least 2.
        kernel: (n, d), (m, d) -> (n, m).
        seed: of the draws.
        resamples: number of draws.

    Returns:
        ``[low, high]``, or None for fewer than three images in a set, where most draws leave no pair.

    Source: Efron 1979; weights as of a U-statistic.
    """
    x, y = _rows(x, y)
    n, m = len(x), len(y)
    if min(n, m) < 3:
        return None
    kernels = _kernels(x, y, kernel)

    def statistic(*drawn: np.ndarray) -> float | None:
        w, v = (np.bincount(d.astype(int), minlength=size).astype(float) for d, size in zip(drawn, (n, m)))
        return _weighted(kernels, w, v) if min(np.count_nonzero(w), np.count_nonzero(v)) > 1 else None

    return bootstrap_interval_of_sets([np.arange(n), np.arange(m)], statistic, seed, resamples)


def _kernels(x: Tensor, y: Tensor, kernel: Kernel) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return kernel(x, x).numpy(), kernel(y, y).numpy(), kernel(x, y).numpy()


def _weighted(kernels: tuple[np.ndarray, np.ndarray, np.ndarray], w: np.ndarray, v: np.ndarray) -> float:
    """The unbiased estimate in which image i of x counts w[i] times, and never together with itself."""
    k_xx, k_yy, k_xy = kernels
    result = -2 * (w @ k_xy @ v) / (w.sum() * v.sum())
    for k, weight in ((k_xx, w), (k_yy, v)):
        alike = weight**2
        result += (weight @ k @ weight - alike @ np.diag(k)) / (weight.sum() ** 2 - alike.sum())
    return float(result)


def mmd2_linear_time(x: Tensor, y: Tensor, kernel: Kernel) -> float:
    """
    Squared MMD from disjoint pairs of consecutive rows: unbiased, in time linear in n, with more variance.

    Rows must be in random order. Of sets of different lengths the first rows count, of an odd number all but the last.

    Args:
        x: (n, d), n at least 2.
        y: (m, d), m at least 2.
        kernel: (..., n, d), (..., m, d) -> (..., n, m), with leading dimensions, as those of this module.

    Raises:
        ValueError: for fewer than two rows, other shapes, NaN or infinity.

    Source: Gretton et al. 2012, lemma 14 (section 6).
    """
    return float(_linear_time_terms(x, y, kernel).mean())


def mmd2_linear_time_interval(x: Tensor, y: Tensor, kernel: Kernel, level: float = 0.95) -> list[float] | None:
    """
    Interval of ``mmd2_linear_time`` by the normal approximation of a mean of independent terms.

    Args:
        x: (n, d), n at least 4 for two terms.
        y: (m, d).
        kernel: as in ``mmd2_linear_time``.
        level: of the interval, in (0, 1).

    Returns:
        ``[low, high]``, or None for fewer than two terms.

    Source: Gretton et al. 2012, corollary 16 (section 6).
    """
    return normal_interval(_linear_time_terms(x, y, kernel).numpy(), level)


def _linear_time_terms(x: Tensor, y: Tensor, kernel: Kernel) -> Tensor:
    """h((x1, y1), (x2, y2)) of each pair of rows, (min(n, m) // 2,), float64."""
    x, y = _rows(x, y)
    used = min(len(x), len(y)) // 2 * 2
    x1, x2, y1, y2 = (v[start:used:2, None] for v in (x, y) for start in (0, 1))
    return (kernel(x1, x2) + kernel(y1, y2) - kernel(x1, y2) - kernel(x2, y1))[:, 0, 0]


def _rows(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Both sets, checked, float64 on the CPU."""
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise ValueError(f"Two sets of vectors of one length were expected, got {tuple(x.shape)} and {tuple(y.shape)}.")
    if min(len(x), len(y)) < 2:
        raise ValueError(f"MMD needs at least two images in each set, got {len(x)} and {len(y)}.")
    if not bool(torch.isfinite(x).all() and torch.isfinite(y).all()):
        raise ValueError("MMD of NaN or infinity.")
    return x.detach().cpu().double(), y.detach().cpu().double()


def linear_kernel(x: Tensor, y: Tensor) -> Tensor:
    """x.y, without scaling."""
    return x @ y.mT


def rbf_kernel(bandwidth: float) -> Kernel:
    """The kernel exp(-|x - y|^2 / (2 bandwidth^2))."""
    return lambda x, y: torch.exp(-squared_distances(x, y) / (2 * bandwidth**2))


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """
    |x - y|^2 of all pairs by a product of matrices, which for whole volumes is many times faster than differences.

    Args:
        x: (..., n, d), float64.
        y: (..., m, d).

    Returns:
        (..., n, m); what is below the rounding error of the products is 0.
    """
    centre = y.mean(-2, keepdim=True)
    x, y = x - centre, y - centre
    size = x.square().sum(-1)[..., :, None] + y.square().sum(-1)[..., None, :]
    squared = size - 2 * x @ y.mT
    return torch.where(squared > 1e-12 * size, squared, 0.0)


def median_bandwidth(x: Tensor, y: Tensor, max_rows: int = 1000, seed: int = 0) -> float:
    """
    Median distance between any two different vectors of both sets together (median heuristic).

    Args:
        x: (n, d).
        y: (m, d).
        max_rows: of more vectors than this, so many are drawn, without replacement: the cost stays that of a small set.
        seed: of the draw.

    Raises:
        ValueError: when more than half of the distances are zero, so that the median gives no scale.

    Source: Gretton et al. 2012, section 8.
    """
    rows = torch.cat([x, y]).detach().cpu()
    if len(rows) > max_rows:
        rows = rows[np.sort(np.random.default_rng(seed).choice(len(rows), max_rows, replace=False))]
    first, second = torch.triu_indices(len(rows), len(rows), 1)
    bandwidth = float(squared_distances(rows.double(), rows.double())[first, second].median().sqrt())
    if bandwidth == 0:
        raise ValueError("The median distance is 0 (identical images); give a bandwidth.")
    return bandwidth


class MaximumMeanDiscrepancy(VolumeSetMetric):
    """
    Squared MMD between generated and real images, on their pixels or on the features of a network.

    On pixels, images of different sizes are cropped at their centres to the size that all have in common.

    MONAI's ``MMDMetric`` is the same unbiased estimate with the linear kernel (equal numbers, tested). It takes one
    call with both whole sets of one length, accumulates nothing over iterations or processes, and has no other kernel
    except through its ``y_mapping``. The linear kernel sees only the mean image (squared distance of the two means);
    the Gaussian one sees every difference of the distributions, which is what MMD stands for in most papers.

    Args:
        kernel: "linear" or "rbf".
        bandwidth: of the Gaussian kernel, in units of the distance; None for the median heuristic.
        max_volumes: kept of each set and process; on features all are kept.
        features: network whose features are compared; None for pixels.
        estimator: "unbiased", all pairs, or "linear_time", disjoint pairs, for sets of many thousands.
        seed: of the interval, of the pairs and of the rows behind the median; recorded.

    Raises:
        ValueError: for an unknown kernel or estimator, or a bandwidth that is not positive.

    Source: Gretton et al. 2012, eq. 3 and section 6.
    """

    def __init__(
        self,
        kernel: str = "rbf",
        bandwidth: float | None = None,
        max_volumes: int = 256,
        features: FeatureNetwork | None = None,
        estimator: str = "unbiased",
        seed: int = 0,
    ) -> None:
        super().__init__(max_volumes)
        if kernel not in KERNELS:
            raise ValueError(f"kernel must be one of {KERNELS}, got {kernel!r}.")
        if estimator not in ESTIMATORS:
            raise ValueError(f"estimator must be one of {ESTIMATORS}, got {estimator!r}.")
        if bandwidth is not None and bandwidth <= 0:
            raise ValueError(f"bandwidth must be positive, got {bandwidth}.")
        self.kernel, self.bandwidth, self.features = kernel, bandwidth, features
        self.estimator, self.seed = estimator, seed

    @property
    def label(self) -> str:
        """Such as ``mmd[rbf]``, ``mmd[rbf, cxr_v1]`` or ``mmd[rbf, linear time]``."""
        parts = [self.kernel, *([self.features.label] if self.features else [])]
        return f"mmd[{', '.join(parts + ['linear time'] * (self.estimator == 'linear_time'))}]"

    def keep(self, generated: Tensor | None = None, real: Tensor | None = None) -> None:
        """Take in images of either set, (N, C, *spatial); with a network their features, (d,) each, are kept."""
        if self.features is None:
            return super().keep(generated, real)
        self._result = None
        for kept, images in ((self._generated, generated), (self._real, real)):
            if images is not None:
                kept.extend(self.features(images).detach().cpu().float())

    def _evaluate(self) -> dict[str, Any]:
        """Value, interval, number of images, kernel, bandwidth, and the size or the features that were compared."""
        generated, real = (in_order_of_mean(v) for v in self.volumes())
        if min(len(generated), len(real)) < 2:
            raise ValueError(f"MMD needs at least two images in each set, got {len(generated)} and {len(real)}.")
        result: dict[str, Any] = {"n": {"generated": len(generated), "real": len(real)}, "kernel": self.kernel}
        if self.features is None:
            size = common_size(generated + real)
            x, y = (torch.stack([centre_crop(v, size).flatten() for v in part]) for part in (generated, real))
            result["size"] = list(size)
        else:
            x, y = torch.stack(generated), torch.stack(real)
            result["features"] = self.features.describe()
        kernel: Kernel = linear_kernel
        if self.kernel == "rbf":
            result["bandwidth"] = self.bandwidth or median_bandwidth(x, y, seed=self.seed)
            kernel = rbf_kernel(result["bandwidth"])
        return {**self._estimated(x, y, kernel), **result, "estimator": self.estimator, "seed": self.seed}

    def _estimated(self, x: Tensor, y: Tensor, kernel: Kernel) -> dict[str, Any]:
        if self.estimator == "unbiased":
            interval = mmd2_bootstrap_interval(x, y, kernel, self.seed)
            return {"value": mmd2_unbiased(x, y, kernel), "interval95": interval, "interval": "bootstrap over images"}
        rng = np.random.default_rng(self.seed)
        x, y = x[rng.permutation(len(x))], y[rng.permutation(len(y))]
        interval = mmd2_linear_time_interval(x, y, kernel)
        return {"value": mmd2_linear_time(x, y, kernel), "interval95": interval, "interval": "normal approximation"}
