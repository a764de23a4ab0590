"""Grain: how much a volume changes from one voxel to the next, beyond what its structures do."""

from __future__ import annotations

from typing import Any

import torch
from monai.metrics import CumulativeIterationMetric
from torch import Tensor

from .sets import plain_images


def grain(images: Tensor, mask: Tensor | None = None) -> Tensor:
    """
    Mean squared Laplacian: sum of the 2d neighbours minus 2d times the voxel, over voxels that have all neighbours.

    White noise of variance v adds 2d (2d + 1) v: 42 v in 3D, 20 v in 2D. In units of the intensity squared, on the
    voxel grid; so compare only volumes of the same range and spacing.

    Args:
        images: (N, C, *spatial), in [-1, 1], sides of at least 3.
        mask: (N, 1 or C, *spatial); only voxels where it is positive count (they may have neighbours outside it).

    Returns:
        (N,), float64.

    Raises:
        ValueError: for sides below 3, NaN, a mask of another size or without an inner voxel.
    """
    x = plain_images(images).double()
    if min(x.shape[2:]) < 3:
        raise ValueError(f"Grain needs sides of at least 3 voxels, got {tuple(x.shape[2:])}.")
    inner = (slice(None), slice(None), *(slice(1, -1) for _ in x.shape[2:]))
    centre = x[inner]
    laplacian = -2 * (x.ndim - 2) * centre
    for axis in range(2, x.ndim):
        for step in (-1, 1):
            laplacian = laplacian + torch.roll(x, step, axis)[inner]
    squared = laplacian**2
    if mask is None:
        return squared.flatten(1).mean(1)
    if mask.shape[2:] != x.shape[2:] or len(mask) != len(x):
        raise ValueError(f"mask {tuple(mask.shape)} does not fit images {tuple(x.shape)}.")
    inside = (plain_images(mask, "mask")[inner] > 0).expand_as(squared).double()
    if not bool(inside.flatten(1).any(1).all()):
        raise ValueError("mask has no voxel with all its neighbours.")
    return (squared * inside).flatten(1).sum(1) / inside.flatten(1).sum(1)


class Grain(CumulativeIterationMetric):
    """
    Grain of each volume; the report sets the generated volumes' mean over the real ones'.

    Args:
        of: "generated" or "real", which of the two images a call looks at.

    Raises:
        ValueError: for another ``of``.
    """

    def __init__(self, of: str = "generated") -> None:
        super().__init__()
        if of not in ("generated", "real"):
            raise ValueError(f"of must be 'generated' or 'real', got {of!r}.")
        self.of = of

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **kwargs: Any) -> Tensor:
        images = y_pred if self.of == "generated" else y
        if images is None:
            raise ValueError("The grain of real volumes needs real volumes.")
        return grain(images).unsqueeze(1)

    def aggregate(self) -> Tensor:  # type: ignore[override]
        """Returns the mean over all volumes."""
        return self.get_buffer().mean()
