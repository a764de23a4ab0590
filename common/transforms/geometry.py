"""Volumes as stacks of slices for a 2D network, and the way back: turned, resized, refined."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform, Orientation
from monai.transforms.utils import scale_affine
from monai.utils import convert_to_tensor
from torch.nn import functional as F

# Axes and directions under which slices of each plane appear as radiologists look at them: x to the right, y down, and
# the slices last. Indexed by the axis that the slices are stacked along: left-right, back-front, feet-head.
_AS_SHOWN = {"sagittal": "PIL", "coronal": "LIP", "axial": "LPI"}
PLANES = ("auto", *_AS_SHOWN)
_THICKER = 1.5  # ratio of spacings from which a volume has slices, not just voxels
FITS = ("tile", "resize", "whole")


class SlicesLastd(MapTransform, InvertibleTransform):
    """
    Turn images so that slices come last and appear as in print: x to the right, y down. Single images as well.

    Args:
        keys: (C, X, Y, Z) with affine.
        plane: "axial", "coronal" or "sagittal" slices; "auto" for the axis of a single voxel, or else that of clearly
            thicker ones, or else axial.

    Raises:
        ValueError: for another plane.

    Example:
        >>> sagittal = MetaTensor(torch.zeros(1, 1, 8, 9))
        >>> SlicesLastd("image")({"image": sagittal})["image"].shape
        torch.Size([1, 8, 9, 1])
    """

    def __init__(self, keys: KeysCollection, plane: str = "auto", allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        if plane not in PLANES:
            raise ValueError(f"plane must be one of {PLANES}, got {plane!r}.")
        self.plane = plane
        self.orientation = Orientation("LPI", labels=(("L", "R"), ("P", "A"), ("I", "S")))

    def __call__(self, data: Mapping[Hashable, MetaTensor]) -> dict[Hashable, MetaTensor]:
        """Returns a copy of ``data``, turned."""
        result = dict(data)
        for key in self.key_iterator(result):
            image = result[key]
            plane = plane_of(image) if self.plane == "auto" else self.plane
            self.orientation.axcodes = _AS_SHOWN[plane]
            result[key] = self.orientation(image)  # type: ignore[assignment]
        return result

    def inverse(self, data: Mapping[Hashable, MetaTensor]) -> dict[Hashable, MetaTensor]:
        """Returns a copy of ``data``, as the files lay."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.orientation.inverse(result[key])  # type: ignore[assignment]
        return result


def plane_of(image: MetaTensor) -> str:
    """The plane in which a volume (C, X, Y, Z) was acquired, as far as its voxels tell."""
    affine = np.asarray(image.affine.cpu(), dtype=np.float64)
    world = nib.orientations.io_orientation(affine)[:, 0].astype(int)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    single = [axis for axis in range(3) if image.shape[axis + 1] == 1]
    thickest = int(np.argmax(spacing))
    if single:
        axis = single[-1]
    elif spacing[thickest] > _THICKER * np.median(spacing):
        axis = thickest
    else:
        return "axial"
    return list(_AS_SHOWN)[world[axis]]


class UpsampleInPlaned(MapTransform):
    """
    Bring slices to a finer grid over the same field, for good: the affine changes, and nothing is undone.

    Args:
        keys: (C, X, Y, Z), slices last, with affine.
        scale: pixels for each pixel along x and y, at least 1, need not be whole; the sides are rounded.
        mode: "bilinear" or "bicubic".

    Raises:
        ValueError: for a scale below 1.

    Example:
        >>> UpsampleInPlaned("image", 1.5)({"image": MetaTensor(torch.zeros(1, 8, 8, 2))})["image"].shape
        torch.Size([1, 12, 12, 2])
    """

    def __init__(
        self, keys: KeysCollection, scale: float = 1.0, mode: str = "bilinear", allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if scale < 1:
            raise ValueError(f"scale must be at least 1, got {scale}.")
        self.scale = scale
        self.mode = mode

    def __call__(self, data: Mapping[Hashable, MetaTensor]) -> dict[Hashable, MetaTensor]:
        """Returns a copy of ``data`` on the finer grid."""
        result = dict(data)
        for key in self.key_iterator(result):
            image = result[key]
            size = [round(side * self.scale) for side in image.shape[1:3]]
            if size != list(image.shape[1:3]):
                finer = torch.from_numpy(scale_affine(image.shape[1:], [*size, image.shape[3]])).to(image.affine)
                values = interpolated(image.as_tensor(), size, self.mode)
                meta = {**image.meta, "affine": image.affine @ finer}
                result[key] = MetaTensor(values, meta=meta, applied_operations=image.applied_operations)
        return result


class FitInPlaned(MapTransform, InvertibleTransform):
    """
    Bring slices to the size that a network was trained at, by areas, and results back by bicubic interpolation.

    ``Resized`` would go back by areas as well, in steps.

    Args:
        keys: (C, X, Y, Z), slices last; affines stay those of the full size.
        size: (X, Y).
        fit: "resize"; with "tile" and "whole" slices stay as they are, see ``SliceSampler``.
        holes: keys among them that hold a hole: every pixel that a hole touches belongs to it.

    Raises:
        ValueError: for another ``fit``.

    Example:
        >>> fit = FitInPlaned("image", size=(4, 4))
        >>> small = fit({"image": MetaTensor(torch.ones(1, 8, 6, 2))})
        >>> small["image"].shape, fit.inverse(small)["image"].shape
        (torch.Size([1, 4, 4, 2]), torch.Size([1, 8, 6, 2]))
    """

    def __init__(
        self,
        keys: KeysCollection,
        size: Sequence[int] = (128, 128),
        fit: str = "resize",
        holes: Sequence[str] = (),
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if fit not in FITS:
            raise ValueError(f"fit must be one of {FITS}, got {fit!r}.")
        self.size = [int(side) for side in size]
        self.fit = fit
        self.holes = tuple(holes)

    def __call__(self, data: Mapping[Hashable, MetaTensor]) -> dict[Hashable, MetaTensor]:
        """Returns a copy of ``data`` with slices of ``size``."""
        result = dict(data)
        for key in self.key_iterator(result):
            image = result[key]
            size = self.size if self.fit == "resize" else image.shape[1:3]
            values = interpolated(image.as_tensor(), size, "area")
            if key in self.holes:
                values = (values > 0).to(values.dtype)
            result[key] = like(values, image)
            self.push_transform(result[key], orig_size=tuple(image.shape[1:3]))
        return result

    def inverse(self, data: Mapping[Hashable, MetaTensor]) -> dict[Hashable, MetaTensor]:
        """Returns a copy of ``data`` with slices of their former size."""
        result = dict(data)
        for key in self.key_iterator(result):
            size = [int(side) for side in self.pop_transform(result[key])["orig_size"]]
            result[key] = like(interpolated(result[key].as_tensor(), size, "bicubic"), result[key])
        return result


class SampleMapsd(MapTransform):
    """
    The first of several samples as the result, and beside it their "mean" and "std", unless there is only one.

    Args:
        keys: (num_samples, X, Y, Z).

    Example:
        >>> case = SampleMapsd("pred")({"pred": torch.tensor([0.0, 4.0]).reshape(2, 1, 1, 1)})
        >>> float(case["pred"]), float(case["mean"])
        (0.0, 2.0)
    """

    def __call__(self, data: Mapping[Hashable, MetaTensor]) -> dict[Hashable, MetaTensor]:
        """Returns a copy of ``data`` with (1, X, Y, Z) images."""
        result = dict(data)
        for key in self.key_iterator(result):
            image, samples = result[key], convert_to_tensor(result[key])
            result[key] = like(samples[:1], image)
            if len(samples) > 1:
                result["mean"] = like(samples.mean(0, keepdim=True), image)
                result["std"] = like(samples.std(0, keepdim=True), image)
        return result


def interpolated(image: torch.Tensor, size: Sequence[int], mode: str) -> torch.Tensor:
    """(C, X, Y, Z) with each slice at ``size``, pixels as areas (``align_corners=False``)."""
    slices = F.interpolate(image.permute(3, 0, 1, 2), tuple(size), mode=mode)
    return slices.permute(1, 2, 3, 0).contiguous()


def like(values: torch.Tensor, image: Any) -> Any:
    """``values`` with the metadata and the history of ``image``, where it has any."""
    if not isinstance(image, MetaTensor):
        return values
    return MetaTensor(values, meta=image.meta, applied_operations=image.applied_operations)
