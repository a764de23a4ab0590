"""Maximum mean discrepancy (MMD) and kernel distance (KID) between two sets, on pixels or on features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .base import FeatureSetMetric, SetMetric, centre_crop, checked_sets, common_size, order_of_mean
from .groups import drawn_together, group_numbers
from .intervals import bootstrap_interval_of_sets, normal_interval
from .kernels import Kernel, cubic_kernel, linear_kernel, median_bandwidth, rbf_kernel
from .pairs import PairSums

if TYPE_CHECKING:
    from ..features.features import FeatureNetwork

Estimate = tuple[float, list[float] | None]
KERNELS = ("linear", "rbf")
ESTIMATORS = ("unbiased", "linear_time")


def mmd2_unbiased(
    x: Tensor,
    y: Tensor,
    kernel: Kernel,
    seed: int = 0,
    resamples: int = 0,
    paired: bool = False,
    groups: tuple[Sequence[str], Sequence[str]] | None = None,
) -> Estimate:
    """
    Unbiased squared MMD of two sets, and its percentile bootstrap interval over the images of both, or over groups.

    Slightly negative values are possible where the sets agree. In a resample an image drawn twice is not paired with
    itself: its kernel of 1 would lift every resample above the estimate. Where the two sets come from one distribution
    the bootstrap is not consistent; then read the interval as the scatter of the estimate, not as a test.

    Args:
        x: (n, d), n at least 2; computed in float64.
        y: (m, d), m at least 2.
        kernel: (n, d), (m, d) -> (n, m).
        seed: of the draws.
        resamples: number of draws; 0 for no interval.
        paired: whether row i of x and row i of y are one case, as a restored image and its original: then k(x_i, y_i)
            is left out as k(x_i, x_i) is, and cases are drawn. With it the estimate would be too low by the likeness of
            the pairs, and below 0 for a set against itself, for which it is 0 so.
        groups: what each row of x and of y belongs to, such as a subject; whole groups are drawn, with their rows in
            both sets where they have groups in common, else of each set by itself. None where each image stands alone.

    Returns:
        Value, and ``[low, high]`` of 95 %; None for fewer than three images in a set, where most draws leave no pair.

    Raises:
        ValueError: for fewer than two rows, other shapes, NaN or infinity; for pairs in sets of different sizes.

    Source: Gretton et al. 2012, eq. 3 (lemma 6), for pairs the estimator MMD_u^2 below it; Efron 1979, weights as of a
        U-statistic.
    """
    x, y = checked_sets(x, y)
    n, m = len(x), len(y)
    if paired and n != m:
        raise ValueError(f"Pairs were expected, got {n} and {m} images.")
    members = group_numbers((n, m), groups, paired)
    pairs = [
        (1, PairSums(kernel(x, x).numpy(), members[0], members[0], without_own=True)),
        (1, PairSums(kernel(y, y).numpy(), members[1], members[1], without_own=True)),
        (-2, PairSums(kernel(x, y).numpy(), members[0], members[1], without_own=paired)),
    ]
    sets = drawn_together(members)
    size = sum(len(own) for own in sets)

    def of_draw(*drawn: np.ndarray) -> float | None:
        times = np.bincount(np.concatenate(drawn).astype(int), minlength=size).astype(float)
        if min(np.count_nonzero(times[own]) for own in members) < 2:
            return None
        return sum(sign * part.mean(times) for sign, part in pairs)

    interval = bootstrap_interval_of_sets(sets, of_draw, seed, resamples) if min(n, m) > 2 else None
    return sum(sign * part.mean(np.ones(size)) for sign, part in pairs), interval


def mmd2_linear_time(x: Tensor, y: Tensor, kernel: Kernel) -> Estimate:
    """
    Squared MMD from disjoint pairs of consecutive rows: unbiased, in time linear in n, with more variance.

    Rows must be in random order. Of sets of different lengths the first rows count, of an odd number all but the last.

    Args and errors are those of ``mmd2_unbiased``; ``kernel`` takes leading dimensions, as those of this module.

    Returns:
        Value, and ``[low, high]`` of 95 % by the normal approximation of a mean of independent terms; None below two.

    Source: Gretton et al. 2012, lemma 14 and corollary 16 (section 6).
    """
    x, y = checked_sets(x, y)
    used = min(len(x), len(y)) // 2 * 2
    x1, x2, y1, y2 = (v[start:used:2, None] for v in (x, y) for start in (0, 1))
    terms = (kernel(x1, x2) + kernel(y1, y2) - kernel(x1, y2) - kernel(x2, y1))[:, 0, 0]
    return float(terms.mean()), normal_interval(terms.numpy())


def kid(generated: Tensor, real: Tensor) -> float:
    """
    Kernel distance: unbiased squared MMD of features under the kernel (x.y / d + 1)^3; unbiased for any n.

    It may be slightly negative. Computed over all pairs of ``generated`` (n, d) and ``real`` (m, d), each at least two,
    not over random subsets as in the reference code, which only adds variance.

    Source: Bińkowski et al. 2018, section 4.
    """
    return mmd2_unbiased(generated, real, cubic_kernel)[0]


class MaximumMeanDiscrepancy(SetMetric):
    """
    Squared MMD between generated and real images, on their pixels or on the features of a network.

    On pixels, images of different sizes are cropped at their centres to the size that all have in common.

    The linear kernel sees only the mean image (squared distance of the two means), and gives the number of MONAI's
    ``MMDMetric`` (tested); the Gaussian one sees every difference of the distributions, as MMD does in most papers.

    Args:
        kernel: "linear" or "rbf".
        bandwidth: of the Gaussian kernel, in units of the distance; None for the median heuristic.
        max_images: kept of each set and process; on features all are kept.
        features: network whose features are compared; None for pixels.
        estimator: "unbiased", all pairs, or "linear_time", disjoint pairs, for sets of many thousands; its interval is
            over images, whatever they belong to.
        seed: of the interval, of the pairs and of the rows behind the median; recorded.

    Raises:
        ValueError: for an unknown kernel or estimator, or a bandwidth that is not positive.

    Source: Gretton et al. 2012, eq. 3 and section 6.

    >>> metric = MaximumMeanDiscrepancy("linear")
    >>> _ = metric(torch.ones(3, 1, 2, 2), torch.zeros(3, 1, 2, 2))
    >>> float(metric.aggregate())  # the mean images differ by 1 in four pixels
    4.0
    """

    def __init__(
        self,
        kernel: str = "rbf",
        bandwidth: float | None = None,
        max_images: int = 256,
        features: FeatureNetwork | None = None,
        estimator: str = "unbiased",
        seed: int = 0,
    ) -> None:
        super().__init__(features, max_images)
        if kernel not in KERNELS:
            raise ValueError(f"kernel must be one of {KERNELS}, got {kernel!r}.")
        if estimator not in ESTIMATORS:
            raise ValueError(f"estimator must be one of {ESTIMATORS}, got {estimator!r}.")
        if bandwidth is not None and bandwidth <= 0:
            raise ValueError(f"bandwidth must be positive, got {bandwidth}.")
        self.kernel, self.bandwidth, self.estimator, self.seed = kernel, bandwidth, estimator, seed

    @property
    def label(self) -> str:
        """Such as ``mmd[rbf]``, ``mmd[rbf, cxr_v1]`` or ``mmd[rbf, linear time]``."""
        parts = [self.kernel, *([self.features.label] if self.features else [])]
        return f"mmd[{', '.join(parts + ['linear time'] * (self.estimator == 'linear_time'))}]"

    def _evaluate(self, generated: list[Tensor], real: list[Tensor]) -> dict[str, Any]:
        """Value, interval, number of images, kernel, bandwidth, and the size or the features that were compared."""
        orders = [order_of_mean(images) for images in (generated, real)]
        generated, real = ([images[i] for i in order] for images, order in zip((generated, real), orders))
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
        if self.estimator == "unbiased":
            groups = self.groups_of_sets(orders)
            value, interval = mmd2_unbiased(x, y, kernel, self.seed, 1000, groups=groups)
            how = "bootstrap over images" if groups is None else "bootstrap over groups of images"
        else:
            rng = np.random.default_rng(self.seed)
            x, y = x[rng.permutation(len(x))], y[rng.permutation(len(y))]
            (value, interval), how = mmd2_linear_time(x, y, kernel), "normal approximation"
        found = {"value": value, "interval95": interval, "interval": how}
        return {**found, **result, "estimator": self.estimator, "seed": self.seed}


class KernelDistanceMetric(FeatureSetMetric):
    """
    KID between generated and real images; keeps the features, not the images.

    Args:
        features: the network and its preprocessing; its name stands in the result.
        seed: of the interval's draws.
        resamples: of the interval; 0 for none.
        paired: whether each generated image belongs to the real one that it is given with, as a restored image to its
            original; see ``mmd2_unbiased``.

    Source: Bińkowski et al. 2018.

    >>> class Pixels:
    ...     label, describe = "pixels", dict
    ...     def __call__(self, images):
    ...         return images.flatten(1)
    >>> metric = KernelDistanceMetric(Pixels(), resamples=0)
    >>> _ = metric(torch.ones(3, 1, 2, 2), torch.zeros(3, 1, 2, 2))
    >>> metric.label, float(metric.aggregate())  # (1 + 1)^3 + 1 - 2
    ('kid[pixels]', 7.0)
    """

    name = "kid"

    def __init__(self, features: FeatureNetwork, seed: int = 0, resamples: int = 1000, paired: bool = False) -> None:
        super().__init__(features)
        self.seed, self.resamples, self.paired = seed, resamples, paired

    def _measure(self, real: Tensor, generated: Tensor) -> dict[str, Any]:
        orders = [real.double().mean(1).argsort(stable=True).tolist()] * 2
        if not self.paired:
            orders = [order_of_mean(list(rows)) for rows in (generated, real)]
        x, y = (rows[order] for rows, order in zip((generated, real), orders))
        groups = self.groups_of_sets(orders)
        value, interval = mmd2_unbiased(x, y, cubic_kernel, self.seed, self.resamples, self.paired, groups)
        result: dict[str, Any] = {"value": value, "interval95": interval, "paired": self.paired}
        if self.resamples:
            drawn = ("pairs of images" if self.paired else "images") if groups is None else "groups of images"
            result["interval_by"] = f"bootstrap over {drawn}, {self.resamples} resamples, seed {self.seed}"
        return result
