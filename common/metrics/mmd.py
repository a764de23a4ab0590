"""Maximum mean discrepancy between two sets, unbiased, with a linear or a Gaussian kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .sets import VolumeSetMetric, centre_crop, common_size

Kernel = Callable[[Tensor, Tensor], Tensor]
KERNELS = ("linear", "rbf")


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
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise ValueError(f"Two sets of vectors of one length were expected, got {tuple(x.shape)} and {tuple(y.shape)}.")
    n, m = len(x), len(y)
    if min(n, m) < 2:
        raise ValueError(f"MMD needs at least two images in each set, got {n} and {m}.")
    if not bool(torch.isfinite(x).all() and torch.isfinite(y).all()):
        raise ValueError("MMD of NaN or infinity.")
    x, y = x.detach().cpu().double(), y.detach().cpu().double()
    k_xx, k_yy, k_xy = kernel(x, x), kernel(y, y), kernel(x, y)
    within_x = (k_xx.sum() - k_xx.trace()) / (n * (n - 1))
    within_y = (k_yy.sum() - k_yy.trace()) / (m * (m - 1))
    return float(within_x + within_y - 2 * k_xy.mean())


def linear_kernel(x: Tensor, y: Tensor) -> Tensor:
    """x.y, without scaling."""
    return x @ y.T


def rbf_kernel(bandwidth: float) -> Kernel:
    """The kernel exp(-|x - y|^2 / (2 bandwidth^2))."""
    return lambda x, y: torch.exp(
        -(torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist") ** 2) / (2 * bandwidth**2)
    )


def median_bandwidth(x: Tensor, y: Tensor) -> float:
    """
    Median distance between any two different vectors of both sets together (median heuristic).

    Raises:
        ValueError: when more than half of the distances are zero, so that the median gives no scale.

    Source: Gretton et al. 2012, section 8.
    """
    bandwidth = float(torch.pdist(torch.cat([x, y]).detach().cpu().double()).median())
    if bandwidth == 0:
        raise ValueError("The median distance is 0 (identical images); give a bandwidth.")
    return bandwidth


class MaximumMeanDiscrepancy(VolumeSetMetric):
    """
    Unbiased squared MMD between generated and real volumes, voxel by voxel.

    Volumes of different sizes are cropped at their centres to the size that all have in common. Of MONAI's
    ``MMDMetric`` this is, with the linear kernel, the same number (tested) accumulated over iterations and processes
    and for sets of different lengths; MONAI's own takes one call with both whole sets, and has no other kernel.
    The linear kernel sees only the mean image; the Gaussian one every difference of the distributions.

    Args:
        kernel: "linear" or "rbf".
        bandwidth: of the Gaussian kernel, in units of the distance; None for the median heuristic.
        max_volumes: kept of each set and process.

    Raises:
        ValueError: for an unknown kernel or a bandwidth that is not positive.

    Source: Gretton et al. 2012, eq. 3.
    """

    def __init__(self, kernel: str = "rbf", bandwidth: float | None = None, max_volumes: int = 256) -> None:
        super().__init__(max_volumes)
        if kernel not in KERNELS:
            raise ValueError(f"kernel must be one of {KERNELS}, got {kernel!r}.")
        if bandwidth is not None and bandwidth <= 0:
            raise ValueError(f"bandwidth must be positive, got {bandwidth}.")
        self.kernel = kernel
        self.bandwidth = bandwidth

    @property
    def label(self) -> str:
        """``mmd[linear]`` or ``mmd[rbf]``."""
        return f"mmd[{self.kernel}]"

    def _evaluate(self) -> dict[str, Any]:
        """Value, number of images, kernel, bandwidth and the size that was compared."""
        generated, real = self.volumes()
        if min(len(generated), len(real)) < 2:
            raise ValueError(f"MMD needs at least two images in each set, got {len(generated)} and {len(real)}.")
        size = common_size(generated + real)
        x, y = (torch.stack([centre_crop(v, size).flatten() for v in volumes]) for volumes in (generated, real))
        result: dict[str, Any] = {"n": {"generated": len(x), "real": len(y)}, "kernel": self.kernel, "size": list(size)}
        if self.kernel == "linear":
            return {"value": mmd2_unbiased(x, y, linear_kernel), **result}
        bandwidth = self.bandwidth or median_bandwidth(x, y)
        return {"value": mmd2_unbiased(x, y, rbf_kernel(bandwidth)), **result, "bandwidth": bandwidth}
