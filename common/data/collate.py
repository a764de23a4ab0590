"""Batches of volumes of different sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.data.utils import list_data_collate
from monai.utils import convert_to_tensor


class CropToCommonSize:
    """
    Collate cases of different sizes by cropping all to one size, at random places.

    MONAI's ``pad_list_data_collate`` makes the sizes equal by padding, and what is padded is learned and generated
    too (black frames). Here every voxel of a batch is a voxel of an image.

    Args:
        keys: the spatial tensors of a case, (C, *spatial), cropped alike.
        divisor: every side of the batch is a multiple of it.
        max_size: largest side, or one a dimension; None for no limit.

    Raises:
        ValueError: when a case is smaller than ``divisor``; the message names it.
    """

    def __init__(self, keys: Sequence[str], divisor: int = 1, max_size: int | Sequence[int] | None = None) -> None:
        self.keys = tuple(keys)
        self.divisor = divisor
        self.max_size = max_size

    def __call__(self, batch: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Returns the collated batch, (N, C, *common size) under each of ``keys``."""
        shapes = [tuple(case[self.keys[0]].shape[1:]) for case in batch]
        size = [min(sides) for sides in zip(*shapes)]
        if self.max_size is not None:
            limits = [self.max_size] * len(size) if isinstance(self.max_size, int) else list(self.max_size)
            size = [min(side, limit) for side, limit in zip(size, limits)]
        size = [side // self.divisor * self.divisor for side in size]
        if not all(size):
            raise ValueError(f"Every side must be at least {self.divisor} voxels, got volumes of {shapes}.")
        return list_data_collate([self._crop(case, size) for case in batch])

    def _crop(self, case: dict[str, Any], size: Sequence[int]) -> dict[str, Any]:
        shape = case[self.keys[0]].shape[1:]
        starts = [int(torch.randint(side - target + 1, ())) for side, target in zip(shape, size)]
        window = (slice(None), *(slice(start, start + target) for start, target in zip(starts, size)))
        cropped = {key: case[key][window] for key in self.keys}
        return {**case, **{key: convert_to_tensor(v) for key, v in cropped.items()}}
