"""Cases of MONAI Label, which loads weights and writes results itself: what its requests need beside a run's cases."""

from __future__ import annotations

import os
import sys
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import DtypeLike, KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from .image_file import ImageFile

SERVED = "image_path"
"""A case with this key is a request of MONAI Label: no file of it is written here."""


def refusal(data: Mapping[Hashable, Any], message: str) -> Exception:
    """
    The error for a case that cannot be used: in MONAI Label's server one that the client sees, with status 400.

    Any other error is to that server its own, and the client learns no more than status 500.

    Example:
        >>> refusal({"image": "a.png"}, "a.png: damaged.")
        ValueError('a.png: damaged.')
    """
    server = sys.modules.get("fastapi") if SERVED in data else None
    return ValueError(message) if server is None else server.HTTPException(400, message)


class StoredTyped(MapTransform):
    """
    Give the result of a request the values and the type of its file, as ``SaveImaged`` stores them.

    MONAI Label takes ``SaveImaged`` out and writes what type it is given; PNG and DICOM cannot hold floats. Cases that
    are no requests are passed on unchanged.

    Args:
        keys: the result, (C, X, Y, Z), whose metadata has "format".
        output_dtype: see ``SaveImaged``.

    Example:
        >>> source = ImageFile("a.png", "raster", None, None, np.dtype("u1"), limits=(0, 255)).as_text()
        >>> case = {"pred": MetaTensor([[[[3.6]]]], meta={"format": source}), SERVED: "a.png"}
        >>> StoredTyped("pred")(case)["pred"].as_tensor()
        tensor([[[[4]]]], dtype=torch.uint8)
    """

    def __init__(self, keys: KeysCollection, output_dtype: DtypeLike = None, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.output_dtype = output_dtype

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns a copy of ``data``; scaled integers become float64, in the units of the file."""
        result = dict(data)
        if SERVED not in result:
            return result
        for key in self.key_iterator(result):
            image = result[key]
            file = ImageFile.from_text(image.meta["format"])
            file = file if self.output_dtype is None else file.of_type(self.output_dtype)
            values = file.stored(image.as_tensor().cpu().numpy())
            if (file.slope, file.inter) != (1, 0):
                values = values * np.float64(file.slope) + file.inter
            values = np.ascontiguousarray(values, values.dtype.newbyteorder("="))
            result[key] = MetaTensor(torch.from_numpy(values), meta=image.meta)
        return result


class LabelAsHoled(MapTransform):
    """
    Take the label of a request for the hole, where the case has none.

    Args:
        keys: the hole, a path.

    Raises:
        ValueError: (when called) without hole and label.

    Example:
        >>> LabelAsHoled()({"image": "a.png", "label": "b.png"})["hole"]
        'b.png'
    """

    def __init__(self, keys: KeysCollection = "hole") -> None:
        super().__init__(keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns a copy of ``data``."""
        result = dict(data)
        for key in self.keys:
            if result.get(key) is None:
                result[key] = result.get("label")
            if result[key] is None:
                raise refusal(data, f"{data.get('image')}: the {key} to be filled was expected as 'label'.")
        return result


class CheckNumberd(MapTransform):
    """
    Refuse the image of a request where images are drawn from noise alone.

    Args:
        keys: number of the image that is drawn.

    Raises:
        ValueError: (when called) for a file.

    Example:
        >>> CheckNumberd("image")({"image": "a.png"})
        Traceback (most recent call last):
        ValueError: a.png: no image was expected, since images are drawn from noise alone here: use monai.bundle run.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns a copy of ``data``, unchanged."""
        for key in self.key_iterator(dict(data)):
            if isinstance(data[key], (str, os.PathLike)):
                drawn = "no image was expected, since images are drawn from noise alone here: use monai.bundle run."
                raise refusal(data, f"{data[key]}: {drawn}")
        return dict(data)
