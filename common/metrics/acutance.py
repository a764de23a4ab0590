"""Acutance: how steep the edges of an image are, in physical units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.metrics import CumulativeIterationMetric
from torch import Tensor

from .sets import plain_images


def acutance(images: Tensor, spacing: float | Sequence[float], mask: Tensor | None = None) -> Tensor:
    """
    Mean squared gradient over contrast.

        A = sum over axes a of mean over x of ((I(x + e_a) - I(x)) / h_a)^2, divided by (max I - min I)

    with h_a the spacing along a. The means run over all pairs of neighbouring voxels along a. Differences of
    neighbours, not central ones, which would not see a pattern that alternates from voxel to voxel.

    Higgins and Jones scan one straight edge and take G^2, the mean squared gradient of density over the points of that
    edge where the gradient exceeds a small threshold, over the density difference between its two ends. What
    differs: the image intensity takes the place of density, the gradient has an axis for each dimension, the contrast
    is that of the whole image, and without a threshold every voxel counts, because a medical image has no single edge
    to cut out. On a ramp from side to side both are equal. So A grows with the share of the image that is edge, with
    noise, and in proportion to the intensity scale: compare it between images of the same content, field of view, and
    range only. Med-cDiff reports acutance without formula or unit; its figures cannot be compared with these.

    Args:
        images: (N, C, *spatial), any range; at least one side longer than 1.
        spacing: distance of neighbouring voxels in mm, one for all axes or one each; 1 gives values per pixel.
        mask: (N, 1 or C, *spatial); only pairs of voxels that both lie where it is positive count, and their contrast.

    Returns:
        (N,), float64, intensity per mm^2, not negative; mean over channels. A constant image has no edge: 0.

    Raises:
        ValueError: for a spacing that is not positive or not one an axis, NaN, sides of 1 only, a mask of another
            size or without two neighbours.

    Source: Higgins and Jones 1952; named as a metric in Med-cDiff, section 3.
    """
    x = plain_images(images).double()
    steps = _steps(spacing, x.ndim - 2)
    if max(x.shape[2:]) < 2:
        raise ValueError(f"Acutance needs a side of at least 2 voxels, got {tuple(x.shape[2:])}.")
    inside = torch.ones_like(x, dtype=torch.bool)
    if mask is not None:
        if mask.shape[2:] != x.shape[2:] or len(mask) != len(x) or mask.shape[1] not in (1, x.shape[1]):
            raise ValueError(f"mask {tuple(mask.shape)} does not fit images {tuple(x.shape)}.")
        inside = (plain_images(mask, "mask") > 0).expand_as(x)
    gradient, pairs = x.new_zeros(x.shape[:2]), x.new_zeros(x.shape[:2])
    for axis, step in enumerate(steps, start=2):
        length = x.shape[axis] - 1
        both = inside.narrow(axis, 0, length) & inside.narrow(axis, 1, length)
        count = both.flatten(2).sum(2)
        squared = torch.where(both, (x.diff(dim=axis) / step) ** 2, 0.0).flatten(2).sum(2)
        gradient, pairs = gradient + squared / count.clamp(min=1), pairs + count
    if not bool((pairs > 0).all()):
        raise ValueError("mask has no two neighbouring voxels.")
    contrast = _contrast(x, inside)
    return torch.where(contrast > 0, gradient / contrast.clamp(min=torch.finfo(x.dtype).tiny), 0.0).mean(1)


def _contrast(x: Tensor, inside: Tensor) -> Tensor:
    """Largest minus smallest value inside, (N, C)."""
    high = torch.where(inside, x, -torch.inf).flatten(2).amax(2)
    return high - torch.where(inside, x, torch.inf).flatten(2).amin(2)


def _steps(spacing: float | Sequence[float], dims: int) -> tuple[float, ...]:
    steps = (float(spacing),) * dims if isinstance(spacing, (int, float)) else tuple(float(s) for s in spacing)
    if len(steps) != dims or min(steps) <= 0:
        raise ValueError(f"spacing must be one positive number of mm or one for each of {dims} axes, got {spacing}.")
    return steps


class Acutance(CumulativeIterationMetric):
    """
    Acutance of each image; set the generated images' mean over the real ones' in the report.

    Args:
        spacing: in mm, one for all axes or one each; 1 where it is unknown, which gives values per pixel.
        of: "generated" or "real", which of the two images a call looks at.

    Raises:
        ValueError: for another ``of``.

    Source: Higgins and Jones 1952; see ``acutance``.
    """

    def __init__(self, spacing: float | Sequence[float], of: str = "generated") -> None:
        super().__init__()
        if of not in ("generated", "real"):
            raise ValueError(f"of must be 'generated' or 'real', got {of!r}.")
        self.spacing = spacing
        self.of = of

    @property
    def label(self) -> str:
        """``acutance[generated]`` or ``acutance[real]``."""
        return f"acutance[{self.of}]"

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **kwargs: Any) -> Tensor:
        images = y_pred if self.of == "generated" else y
        if images is None:
            raise ValueError("The acutance of real images needs real images.")
        return acutance(images, self.spacing).unsqueeze(1)

    def per_case(self) -> Tensor:
        """Acutance of each image, (n,), float64."""
        return self.get_buffer()[:, 0]

    def aggregate(self) -> Tensor:  # type: ignore[override]
        """Returns the mean over all images."""
        return self.per_case().mean()

    def report(self) -> dict[str, Any]:
        """Spacing and unit."""
        spacing = self.spacing if isinstance(self.spacing, (int, float)) else list(self.spacing)
        return {"spacing_mm": spacing, "unit": "intensity per mm^2"}
