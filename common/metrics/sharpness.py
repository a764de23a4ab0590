"""Sharpness of images: acutance, how steep edges are in physical units, and grain, the change from voxel to voxel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..utils.images import plain_images
from .base import CaseMetric, inside_mask, side_of


def acutance(images: Tensor, spacing: float | Sequence[float], mask: Tensor | None = None) -> Tensor:
    """
    Mean squared gradient over contrast.

        A = sum over axes a of mean over x of ((I(x + e_a) - I(x)) / h_a)^2, divided by (max I - min I)

    with h_a the spacing along a; the means run over all pairs of neighbouring voxels along a.

    Higgins and Jones scan one straight edge and divide the mean squared gradient of its steep points by the density
    difference of its ends. Here every voxel counts, along each axis, and the contrast is that of the whole image; on a
    ramp from side to side both are equal. So A grows with the share of the image that is edge, with noise, and in
    proportion to the intensity scale: compare it between images of the same content, field of view, and range only.

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
    inside = torch.ones_like(x, dtype=torch.bool) if mask is None else inside_mask(mask, x)
    gradient, pairs = x.new_zeros(x.shape[:2]), x.new_zeros(x.shape[:2])
    for axis, step in enumerate(steps, start=2):
        length = x.shape[axis] - 1
        both = inside.narrow(axis, 0, length) & inside.narrow(axis, 1, length)
        count = both.flatten(2).sum(2)
        squared = torch.where(both, (x.diff(dim=axis) / step) ** 2, 0.0).flatten(2).sum(2)
        gradient, pairs = gradient + squared / count.clamp(min=1), pairs + count
    if not bool((pairs > 0).all()):
        raise ValueError("mask has no two neighbouring voxels.")
    high, low = (torch.where(inside, x, end).flatten(2) for end in (-torch.inf, torch.inf))
    contrast = high.amax(2) - low.amin(2)
    return torch.where(contrast > 0, gradient / contrast.clamp(min=torch.finfo(x.dtype).tiny), 0.0).mean(1)


def _steps(spacing: float | Sequence[float], dims: int) -> tuple[float, ...]:
    steps = (float(spacing),) * dims if isinstance(spacing, (int, float)) else tuple(float(s) for s in spacing)
    if len(steps) != dims or min(steps) <= 0:
        raise ValueError(f"spacing must be one positive number of mm or one for each of {dims} axes, got {spacing}.")
    return steps


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
    laplacian = -2 * (x.ndim - 2) * x[inner]
    for axis in range(2, x.ndim):
        for step in (-1, 1):
            laplacian = laplacian + torch.roll(x, step, axis)[inner]
    squared = laplacian**2
    if mask is None:
        return squared.flatten(1).mean(1)
    inside = inside_mask(mask, x)[inner].double()
    if not bool(inside.flatten(1).any(1).all()):
        raise ValueError("mask has no voxel with all its neighbours.")
    return (squared * inside).flatten(1).sum(1) / inside.flatten(1).sum(1)


class _OneSet(CaseMetric):
    """Looks at one of the two images of a call."""

    def __init__(self, of: str = "generated") -> None:
        super().__init__()
        self.of = side_of(of)

    def _values(self, y_pred: Tensor, y: Tensor | None) -> Tensor:
        images = y_pred if self.of == "generated" else y
        if images is None:
            raise ValueError(f"{self.label} needs real images.")
        return self._sharpness(images)

    def _sharpness(self, images: Tensor) -> Tensor:
        raise NotImplementedError


class Acutance(_OneSet):
    """
    Acutance of each image; set the generated images' mean over the real ones' in the report.

    Args:
        spacing: in mm, one for all axes or one each; 1 where it is unknown, which gives values per pixel.
        of: "generated" or "real", which of the two images a call looks at.

    Raises:
        ValueError: for another ``of``.

    Source: Higgins and Jones 1952; see ``acutance``.

    >>> metric = Acutance(spacing=0.5)
    >>> _ = metric(torch.tensor([[0.0, 1.0], [0.0, 1.0]])[None, None])
    >>> metric.label, float(metric.aggregate())
    ('acutance[generated]', 4.0)
    """

    def __init__(self, spacing: float | Sequence[float], of: str = "generated") -> None:
        super().__init__(of)
        self.spacing = spacing

    @property
    def label(self) -> str:
        """``acutance[generated]`` or ``acutance[real]``."""
        return f"acutance[{self.of}]"

    def _sharpness(self, images: Tensor) -> Tensor:
        return acutance(images, self.spacing)

    def report(self) -> dict[str, Any]:
        """Spacing and unit."""
        spacing = self.spacing if isinstance(self.spacing, (int, float)) else list(self.spacing)
        return {"spacing_mm": spacing, "unit": "intensity per mm^2"}


class Grain(_OneSet):
    """
    Grain of each volume; the report sets the generated volumes' mean over the real ones'.

    Args:
        of: "generated" or "real", which of the two images a call looks at.

    Raises:
        ValueError: for another ``of``.

    >>> metric = Grain()
    >>> _ = metric(torch.eye(3)[None, None])  # at the centre: no neighbour but itself
    >>> float(metric.aggregate())
    16.0
    """

    @property
    def label(self) -> str:
        """``grain`` or ``grain_real``."""
        return "grain" if self.of == "generated" else "grain_real"

    def _sharpness(self, images: Tensor) -> Tensor:
        return grain(images)
