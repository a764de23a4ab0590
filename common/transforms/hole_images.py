"""Images with a user's hole: what the network is given, and the known pixels put back."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from .conditions import holed


class CheckHoled(MapTransform):
    """
    Make a mask a hole, 1 inside and 0 outside, or say why it is none.

    Args:
        keys: the mask, (1, X, Y, Z); whatever is not 0 lies in the hole. JPEG blurs its edges, so half of the largest
            value is the limit there.
        image_key: the image, on the same grid.
        tolerance: largest difference of the affines' entries, in mm, where both files are NIfTI.

    Raises:
        ValueError: (when called) names the file of a hole that is empty, covers everything, or lies on another grid,
            and of a NIfTI hole for a picture or the other way round.
    """

    def __init__(self, keys: KeysCollection = "hole", image_key: str = "image", tolerance: float = 1e-3) -> None:
        super().__init__(keys)
        self.image_key = image_key
        self.tolerance = tolerance

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns a copy of ``data`` with a float64 hole on the image's affine."""
        result = dict(data)
        image = data[self.image_key]
        for key in self.key_iterator(result):
            mask = data[key]
            name, other = (str(item.meta["filename_or_obj"]) for item in (mask, image))
            if mask.shape != image.shape:
                sizes = [" x ".join(str(side) for side in item.shape[1:]) for item in (image, mask)]
                raise ValueError(f"{name}: a hole of the size of {other}, {sizes[0]}, was expected, got {sizes[1]}.")
            nifti = [".nii" in Path(path).name.lower() for path in (name, other)]
            if nifti[0] != nifti[1]:  # a picture does not say how it lies in a NIfTI file
                wanted = "NIfTI hole" if nifti[1] else "hole as a picture (PNG, JPEG, DICOM)"
                raise ValueError(f"{name}: a {wanted} was expected for {other}.")
            if all(nifti):
                difference = float((mask.affine - image.affine).abs().max())
                if difference > self.tolerance:
                    raise ValueError(f"{name} and {other} lie on different grids: {difference:g} mm between affines.")
            limit = float(mask.max()) / 2 if name.lower().endswith((".jpg", ".jpeg")) else 0.0
            hole = (mask.as_tensor() > limit).double()
            if not bool(hole.any()):
                raise ValueError(f"{name}: the hole is empty; pixels to be filled, other than 0, were expected.")
            if bool(hole.all()):
                raise ValueError(f"{name}: the hole covers the whole image; known pixels, of value 0, were expected.")
            result[key] = MetaTensor(hole, meta={**image.meta, "filename_or_obj": name})
        return result


class HoleChannelsd(MapTransform):
    """
    The condition of an inpainting network for slices, by ``holed``: the image with 0 in the hole, and the hole.

    Args:
        keys: the image, (1, X, Y, Z) in [-1, 1]; becomes (2, X, Y, Z).
        hole_key: the hole, 1 inside.
    """

    def __init__(self, keys: KeysCollection = "image", hole_key: str = "hole") -> None:
        super().__init__(keys)
        self.hole_key = hole_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns a copy of ``data`` with the second channel."""
        result = dict(data)
        for key in self.key_iterator(result):
            image = result[key]
            slices, hole = (item.as_tensor().permute(3, 0, 1, 2) for item in (image, data[self.hole_key]))
            values = holed(slices, hole).permute(1, 2, 3, 0).contiguous()
            result[key] = MetaTensor(values, meta=image.meta, applied_operations=image.applied_operations)
        return result


class KeepKnownd(MapTransform):
    """
    Put the known pixels back, so that only the hole is new.

    Args:
        keys: restored images, (C, X, Y, Z).
        original_key: the image as it was read, (1, X, Y, Z) float64.
        hole_key: its hole.
    """

    def __init__(
        self, keys: KeysCollection = "pred", original_key: str = "original", hole_key: str = "original_hole"
    ) -> None:
        super().__init__(keys)
        self.original_key = original_key
        self.hole_key = hole_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns a copy of ``data``; float64, so that every stored value comes through."""
        result = dict(data)
        for key in self.key_iterator(result):
            image = result[key]
            known, hole = (data[name].as_tensor().to(image.device) for name in (self.original_key, self.hole_key))
            values = torch.where(hole > 0, image.as_tensor().double(), known.double())
            result[key] = MetaTensor(values, meta=image.meta, applied_operations=image.applied_operations)
        return result
