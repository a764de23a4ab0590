"""Where in a masked organ a voxel lies, for networks whose filters see a small part of it."""

from __future__ import annotations

import torch
from torch import Tensor


def mask_coordinates(mask: Tensor) -> Tensor:
    """
    Coordinates of each voxel from the centre of its mask, in standard deviations of the mask along each axis.

    Unlike those of the grid, which MONAI's ``AddCoordinateChannels`` gives, they stay the same where the field of view
    is moved or padded, and nearly so where the organ is larger.

    Args:
        mask: (N, C, *spatial), channels of a one-hot label map, above 0.5 inside; all 0 where a condition is dropped.

    Returns:
        (N, spatial_dims, *spatial), in the dtype of ``mask``; 0 outside the mask.

    Source: Liu et al. 2018 (CoordConv), section 3, with the mask as its origin and unit.

    >>> mask_coordinates(torch.tensor([[[0.0, 1.0, 1.0, 1.0, 0.0, 0.0]]]))
    tensor([[[ 0.0000, -1.2247,  0.0000,  1.2247,  0.0000,  0.0000]]])
    """
    inside = mask.amax(1, keepdim=True) > 0.5
    axes = list(range(2, mask.ndim))
    count = inside.sum(axes, keepdim=True).clamp(min=1)
    coordinates = []
    for axis in axes:
        shape = [-1 if one == axis else 1 for one in range(mask.ndim)]
        grid = torch.arange(mask.shape[axis], dtype=torch.float32, device=mask.device).reshape(shape)
        centre = (grid * inside).sum(axes, keepdim=True) / count
        centred = torch.where(inside, grid - centre, 0.0)
        deviation = (centred.square().sum(axes, keepdim=True) / count).sqrt().clamp(min=0.5)
        coordinates.append(centred / deviation)
    return torch.cat(coordinates, dim=1).to(mask.dtype)
