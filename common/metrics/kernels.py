"""Kernels of vectors, and the scale of the Gaussian one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

Kernel = Callable[[Tensor, Tensor], Tensor]


def linear_kernel(x: Tensor, y: Tensor) -> Tensor:
    """x.y, without scaling."""
    return x @ y.mT


def cubic_kernel(x: Tensor, y: Tensor) -> Tensor:
    """(x.y / d + 1)^3, (n, d) and (m, d) -> (n, m)."""
    return (x @ y.mT / x.shape[-1] + 1) ** 3


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
