"""Checks of loaded images that stop a run before its long part, with the file's name and what was expected."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import convert_to_tensor


class CheckImaged(MapTransform):
    """
    Pass images on as they are, or say why they cannot be used.

    Args:
        keys: images, (channels, *spatial), any dtype.
        spatial_dims: number of axes, each of at least two voxels.
        channels: number of channels, or None for any.
        whole_numbers: whether fractions are refused, as in a label map.
        value_range: lowest and highest value, or None for any.

    Raises:
        ValueError: (when called) names the file, what was found and what was expected.

    Example:
        >>> check = CheckImaged("image", spatial_dims=2, value_range=(0, 255))
        >>> check({"image": torch.full((1, 8, 8), 300.0)})
        Traceback (most recent call last):
        ValueError: image: values in [0, 255] were expected, got 300 to 300.
    """

    def __init__(
        self,
        keys: KeysCollection,
        spatial_dims: int = 3,
        channels: int | None = 1,
        whole_numbers: bool = False,
        value_range: tuple[float, float] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.spatial_dims = spatial_dims
        self.channels = channels
        self.whole_numbers = whole_numbers
        self.value_range = value_range

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """Returns a copy of ``data``, unchanged."""
        for key in self.key_iterator(dict(data)):
            values = convert_to_tensor(data[key])
            problem = self._shape_problem(tuple(values.shape)) or self._value_problem(values)
            if problem:
                raise ValueError(f"{name_of(data[key])}: {problem}")
        return dict(data)

    def _shape_problem(self, shape: tuple[int, ...]) -> str | None:
        sides, dims = shape[1:], self.spatial_dims
        if len(sides) != dims or min(sides) < 2:
            return f"a {dims}D volume was expected, got {' x '.join(map(str, sides))} voxels."
        if self.channels is not None and shape[0] != self.channels:
            return f"{self.channels} channel was expected, got {shape[0]} (a {dims + 1}D file?)."
        return None

    def _value_problem(self, values: torch.Tensor) -> str | None:
        wrong = ~torch.isfinite(values)
        if bool(wrong.any()):
            return f"{int(wrong.sum())} of {values.numel()} voxels are NaN or infinite; finite numbers were expected."
        if self.whole_numbers and values.is_floating_point():
            broken = values[values != values.round()]
            if broken.numel():
                found = [round(float(v), 4) for v in torch.unique(broken)[:5]]
                return f"a label map of whole numbers was expected, got {found} among others (resampled linearly?)."
        if self.value_range is not None:
            low, high = float(values.min()), float(values.max())
            if low < self.value_range[0] or high > self.value_range[1]:
                return f"values in {list(self.value_range)} were expected, got {low:g} to {high:g}."
        return None


class CheckSameGridd(MapTransform):
    """
    Pass a case on when its volumes lie on one grid.

    Args:
        keys: volumes, (C, *spatial), with their affines.
        tolerance: largest difference of an affine's entry, in mm.

    Raises:
        ValueError: (when called) names both files and the shapes or affines that differ.

    Example:
        >>> volume = MetaTensor(torch.zeros(1, 4, 4, 4))
        >>> sorted(CheckSameGridd(["image", "label"])({"image": volume, "label": volume + 1}))
        ['image', 'label']
    """

    def __init__(self, keys: KeysCollection, tolerance: float = 1e-3) -> None:
        super().__init__(keys)
        self.tolerance = tolerance

    def __call__(self, data: Mapping[Hashable, MetaTensor]) -> dict[Hashable, MetaTensor]:
        """Returns a copy of ``data``, unchanged."""
        first, *others = (data[key] for key in self.keys)
        for other in others:
            names = f"{name_of(first)} and {name_of(other)}"
            if first.shape[1:] != other.shape[1:]:
                raise ValueError(f"{names} have different shapes: {tuple(first.shape[1:])}, {tuple(other.shape[1:])}.")
            difference = float((first.affine - other.affine).abs().max())
            if difference > self.tolerance:
                raise ValueError(f"{names} lie on different grids: their affines differ by up to {difference:g} mm.")
        return dict(data)


def name_of(image: Any, default: str = "image") -> str:
    """The file that an image came from, as far as its metadata knows."""
    return str(getattr(image, "meta", {}).get("filename_or_obj") or default)
