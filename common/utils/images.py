"""Tensors of images: checked, and their memory handed back."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import torch
from monai.utils import convert_to_tensor
from torch import Tensor
from torch.nn import functional as F

MAX_VOXELS = 512**3
"""Larger images are refused before they are made: they would take gigabytes before any error."""

_LARGE = 2**20  # bytes of an image from which handing memory back is worth the milliseconds


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


def pad_to_multiple(tensor: Tensor, divisor: int, value: float | None = -1.0) -> tuple[Tensor, tuple[slice, ...]]:
    """
    Pad the spatial sides of (N, C, *spatial) to multiples of ``divisor``, half before and half after.

    Args:
        tensor: to be padded.
        divisor: at least 1.
        value: conditions are padded with -1: "outside" of the channels of a mask, black in an image. None repeats the
            edges.

    Returns:
        The padded tensor and the index (of all axes) that undoes the padding.
    """
    extra = [-side % divisor for side in tensor.shape[2:]]
    widths = [width for e in reversed(extra) for width in (e // 2, e - e // 2)]
    crop = tuple(slice(e // 2, e // 2 + side) for e, side in zip(extra, tensor.shape[2:]))
    how: dict[str, Any] = {"mode": "replicate"} if value is None else {"value": value}
    return F.pad(tensor, widths, **how) if any(widths) else tensor, (slice(None), slice(None), *crop)


def on_cpu(case: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
    """A case with its tensors on the CPU, without gradients and metadata."""
    tensors = {key: convert_to_tensor(value) for key, value in case.items() if isinstance(value, Tensor)}
    return {**case, **{key: tensor.detach().cpu() for key, tensor in tensors.items()}}


def release_memory(images: Tensor) -> None:
    """
    Hand the heap's free pages back to the system, after images that were large.

    The C library takes blocks of several MiB from its heap once it has seen one freed, and a small tensor that is kept
    (a feature vector) then lies in the hole of a volume, where the next volume no longer fits: each volume takes new
    memory. Measured: 240 pairs of 128^3 with features of 512 numbers, 3.9 GB without this, 0.3 GB with it.

    Args:
        images: those just measured; nothing is done below 1 MiB an image, or where the C library is not glibc.
    """
    if len(images) and images[0].numel() * images.element_size() >= _LARGE:
        _malloc_trim()(0)


@functools.cache
def _malloc_trim() -> Callable[[int], Any]:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return lambda pad: None
