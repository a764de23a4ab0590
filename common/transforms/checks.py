"""Checks of loaded images that stop a run before its long part, with the file's name and what was expected."""

from __future__ import annotations

import logging
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.transforms import Spacingd as MonaiSpacingd
from monai.utils import convert_to_tensor

from ..utils.images import MAX_VOXELS
from .geometry import like

_NEAR = 1e-3

logger = logging.getLogger(__name__)


class CheckImaged(MapTransform):
    """
    Pass images on as they are, or say why they cannot be used.

    Args:
        keys: images, (channels, *spatial), any dtype.
        spatial_dims: number of axes, each of at least two voxels.
        channels: number of channels, or None for any.
        whole_numbers: whether fractions are refused, as in a label map; see ``nearly_whole``.
        value_range: lowest and highest value, or None for any.
        spacing: voxel sides, mm, that the image is to be resampled to; None where it is not.

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
        spacing: Sequence[float] | float | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if spacing is not None and not np.all(np.asarray(spacing, dtype=float) > 0):
            raise ValueError(f"spacing must be above 0 mm, got {spacing}.")
        self.spatial_dims = spatial_dims
        self.channels = channels
        self.whole_numbers = whole_numbers
        self.value_range = value_range
        self.spacing = spacing

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """Returns a copy of ``data``; label maps in whole numbers."""
        result = dict(data)
        for key in self.key_iterator(result):
            if self.whole_numbers:
                result[key] = nearly_whole(data[key])
            values = convert_to_tensor(result[key])
            problem = self._shape_problem(tuple(values.shape)) or self._value_problem(values)
            problem = problem or self._grid_problem(data[key])
            if problem:
                raise ValueError(f"{name_of(data[key])}: {problem}")
        return result

    def _shape_problem(self, shape: tuple[int, ...]) -> str | None:
        sides, dims = shape[1:], self.spatial_dims
        if len(sides) != dims or min(sides) < 2:
            return f"a {dims}D volume was expected, got {' x '.join(map(str, sides))} voxels."
        if self.channels is not None and shape[0] != self.channels:
            return f"{self.channels} channel was expected, got {shape[0]} (a {dims + 1}D file?)."
        return None

    def _grid_problem(self, image: NdarrayOrTensor) -> str | None:
        if self.spacing is None or not isinstance(image, MetaTensor):
            return None
        spacing = np.broadcast_to(np.asarray(self.spacing, dtype=float), 3)
        sides = np.linalg.norm(np.asarray(image.affine, dtype=float)[:3, :3], axis=0)
        extent = sides * image.shape[1:]
        if extent.max() < 2 * spacing.max():
            return f"the image is {_by(extent)} mm large, less than two voxels of {_by(spacing)} mm: another unit?"
        voxels = extent.prod() / spacing.prod()
        if voxels > MAX_VOXELS:
            made = f"become {voxels:.3g} voxels of {_by(spacing)} mm; at most {MAX_VOXELS:,} were expected"
            return f"{_by(image.shape[1:])} voxels of {_by(sides)} mm {made}: another unit, or a coarser spacing?"
        return None

    def _value_problem(self, values: torch.Tensor) -> str | None:
        wrong = ~torch.isfinite(values)
        if bool(wrong.any()):
            return f"{int(wrong.sum())} of {values.numel()} voxels are NaN or infinite; finite numbers were expected."
        if self.whole_numbers and values.is_floating_point():
            broken = values[values != values.round()]
            if broken.numel():
                found, number = [round(float(v), 4) for v in torch.unique(broken)[:5]], f"{broken.numel()} voxels"
                return f"a label map of whole numbers was expected, got {found} in {number} (resampled linearly?)."
        if self.value_range is not None:
            low, high = float(values.min()), float(values.max())
            if low < self.value_range[0] or high > self.value_range[1]:
                return f"values in {list(self.value_range)} were expected, got {low:g} to {high:g}."
        return None


def _by(sides: Iterable[float]) -> str:
    return " x ".join(f"{float(side):g}" for side in sides)


class CheckSameGridd(MapTransform):
    """
    Pass a case on when its volumes lie on one grid: entries of their affines differ by no more than a micrometre.

    Args:
        keys: volumes, (C, *spatial), with their affines.

    Raises:
        ValueError: (when called) names both files and the shapes or affines that differ.

    Example:
        >>> volume = MetaTensor(torch.zeros(1, 4, 4, 4))
        >>> sorted(CheckSameGridd(["image", "label"])({"image": volume, "label": volume + 1}))
        ['image', 'label']
    """

    def __call__(self, data: Mapping[Hashable, MetaTensor]) -> dict[Hashable, MetaTensor]:
        """Returns a copy of ``data``, unchanged."""
        first, *others = (data[key] for key in self.keys)
        for other in others:
            names = f"{name_of(first)} and {name_of(other)}"
            if first.shape[1:] != other.shape[1:]:
                raise ValueError(f"{names} have different shapes: {tuple(first.shape[1:])}, {tuple(other.shape[1:])}.")
            difference = float((first.affine - other.affine).abs().max())
            if difference > 1e-3:
                raise ValueError(f"{names} lie on different grids: their affines differ by up to {difference:g} mm.")
        return dict(data)


class Spacingd(MonaiSpacingd):
    """
    Resample images to a voxel size as MONAI's ``Spacingd`` does, and lose no label.

    Nearest neighbours skip voxels where the new grid is coarser: a thin label disappears in silence. A label that would
    keep less than half of its volume takes, with a notice, the voxels that it covers most, as many as its volume fills,
    and at least one. Every other map is the one of nearest neighbours. MONAI 1.6.1's own class fails on cases that
    have an entry of text beside an image, such as "image_path"; it is handed no such entry.

    Args:
        keys: images, (C, *spatial).
        pixdim: voxel sides, mm.
        labels: keys among them that hold label maps, whole numbers, 0 for the background.
        kwargs: of MONAI's ``Spacingd``, such as ``mode``; not ``lazy``.

    Raises:
        ValueError: (when called) when a label would be lost all the same, by file.

    Example:
        >>> thin = torch.zeros(1, 4, 4, 4); thin[0, 1, 1, 1] = 2
        >>> coarser = Spacingd("mask", (2, 2, 2), labels=["mask"], mode="nearest")
        >>> case = coarser({"mask": MetaTensor(thin, meta={"filename_or_obj": "a.nii"}), "mask_path": "a.nii"})
        >>> int((case["mask"] == 2).sum())
        1
    """

    def __init__(self, keys: KeysCollection, pixdim: Any, labels: Collection[str] = (), **kwargs: Any) -> None:
        super().__init__(keys, pixdim, **kwargs)
        self.labels = tuple(labels)

    def __call__(self, data: Mapping[Hashable, Any], lazy: bool | None = None) -> dict[Hashable, Any]:
        """Returns a copy of ``data``, resampled."""
        own = {key: value for key, value in data.items() if key in self.keys or isinstance(value, dict)}
        result = {**data, **super().__call__(own, lazy)}
        for key in self.labels:
            if isinstance(data.get(key), MetaTensor):
                keep_labels(data[key], result[key], name_of(data[key], str(key)))
        return result


def keep_labels(before: MetaTensor, after: MetaTensor, name: str) -> None:
    """
    Give labels that a coarser grid has lost their voxels, in place.

    Args:
        before: label map, (1, *spatial), whole numbers, with affine.
        after: the same by nearest neighbours on another grid along the same axes.
        name: of the case, for messages.

    Raises:
        ValueError: when a label has less than half of its volume still.
    """
    volume_of = [float(torch.linalg.det(image.affine[:-1, :-1]).abs()) for image in (before, after)]
    volumes = {v: n * volume_of[0] for v, n in voxels_of(before).items() if v != 0}
    lost = _lost(volumes, after, volume_of[1])
    for value in sorted(lost, key=lambda value: -volumes[value]):  # the smallest last: nothing takes their place
        covered = _coverage(before, after, value).flatten()
        covered += (after.as_tensor().flatten() == value).to(covered)
        number = min(max(1, round(volumes[value] / volume_of[1])), int((covered > 0).sum()))
        chosen = torch.zeros_like(covered, dtype=torch.bool)
        chosen[covered.argsort(descending=True, stable=True)[:number]] = True
        after.as_tensor()[0][chosen.reshape(after.shape[1:])] = value
    still = _lost(volumes, after, volume_of[1])
    if still:
        raise ValueError(
            f"{name}: the labels {still} are finer than the voxels of {_mm(after)} mm that the network sees, and would "
            "be lost: make them thicker, or leave them out."
        )
    if lost:
        logger.warning(
            "%s: the labels %s are finer than the voxels of %s mm that the network sees; they are kept, coarser.",
            name, lost, _mm(after),
        )  # fmt: skip


def nearly_whole(values: NdarrayOrTensor) -> NdarrayOrTensor:
    """
    A label map with values within 0.001 of a whole number rounded, as scaled integers come back from NIfTI files.

    Args:
        values: any shape and type.

    Returns:
        The same where nothing is to be rounded.
    """
    plain = convert_to_tensor(values)
    if not plain.is_floating_point():
        return values
    whole = plain.round()
    near = ((plain - whole).abs() <= _NEAR) & (plain != whole)
    return like(torch.where(near, whole, plain), values) if bool(near.any()) else values


def voxels_of(labels: torch.Tensor) -> dict[int, int]:
    """Number of voxels of each value of a label map."""
    flat = convert_to_tensor(labels).flatten().round().long()
    low = int(flat.min())
    if int(flat.max()) - low < 2**16:  # much faster than to sort
        counts = torch.bincount(flat - low)
        return {int(v) + low: int(counts[v]) for v in counts.nonzero().flatten()}
    values, counts = torch.unique(flat, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist()))


def _lost(volumes: Mapping[int, float], after: MetaTensor, voxel: float) -> list[int]:
    found = voxels_of(after)
    return [value for value, volume in volumes.items() if found.get(value, 0) * voxel < volume / 2]


def _coverage(before: MetaTensor, after: MetaTensor, value: int) -> torch.Tensor:
    """The part of each voxel of ``after`` that a label covers, (*spatial), float64; grids along the same axes."""
    way = torch.linalg.inv(before.affine.double()) @ after.affine.double()
    covered = (before.as_tensor()[0] == value).double()
    for axis in range(covered.ndim):
        step = float(way[axis, axis])
        low = step * (torch.arange(after.shape[axis + 1]).double() - 0.5) + float(way[axis, -1])
        edges = torch.arange(covered.shape[axis]).double() - 0.5
        inside = torch.minimum(low[:, None] + step, edges + 1) - torch.maximum(low[:, None], edges)
        covered = torch.tensordot(inside.clamp(min=0) / step, covered, dims=([1], [axis])).movedim(0, axis)
    return covered


def _mm(image: MetaTensor) -> str:
    return " x ".join(f"{float(side):g}" for side in image.affine[:-1, :-1].norm(dim=0))


def name_of(image: Any, default: str = "image") -> str:
    """The file that an image came from, as far as its metadata knows."""
    return str(getattr(image, "meta", {}).get("filename_or_obj") or default)
