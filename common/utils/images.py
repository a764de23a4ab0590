"""Tensors of images, checked."""

from __future__ import annotations

import torch
from monai.utils import convert_to_tensor
from torch import Tensor


def plain_images(images: Tensor, name: str = "images") -> Tensor:
    """
    A plain tensor without metadata, checked.

    Args:
        images: (N, C, *spatial), two or three spatial dimensions.
        name: for the message.

    Raises:
        ValueError: for another number of dimensions, NaN or infinity.
    """
    plain = convert_to_tensor(images)
    if plain.ndim not in (4, 5):
        raise ValueError(f"{name} must be (N, C, *spatial) in 2D or 3D, got shape {tuple(plain.shape)}.")
    if not bool(torch.isfinite(plain).all()):
        raise ValueError(f"{name} hold NaN or infinity.")
    return plain.detach()
