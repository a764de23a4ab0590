"""Images of a synthetic set on disk: PNG, grey or in colour, each with its record in the file."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, SaveImaged

from .synthetic import image_name, write_synthetic
from .synthetic_set import SyntheticSet

_GREYS = 255


class SaveSyntheticd(SaveImaged):
    """
    Write the images of a set that are missing, 8 bits a channel, marked as synthetic.

    It is a ``SaveImaged`` since MONAI Label takes those out.

    Args:
        keys: the image, (1, H, W) or (3, H, W) in [0, 1], upright (rows, columns); black is 0.
        image_set: knows the folder, the names and the records.

    Raises:
        ValueError: (when called) for an image outside [0, 1], NaN or of another shape, by name.
    """

    def __init__(self, keys: KeysCollection, image_set: SyntheticSet, allow_missing_keys: bool = False) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.image_set = image_set

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns a copy of ``data``, unchanged."""
        result: dict[Any, Any] = dict(data)
        if int(result.get("missing", 1)):
            path = self.image_set.folder / image_name(result["class"], int(result["number"]))
            for key in self.key_iterator(result):
                write_synthetic(path, stored_pixels(result[key], str(path)), self.image_set.record(result))
        return result


def stored_pixels(image: Any, name: str) -> np.ndarray:
    """
    An image as it is stored.

    Args:
        image: (1, H, W) or (3, H, W) in [0, 1].
        name: for the message.

    Returns:
        (rows, columns) or (rows, columns, 3), uint8.

    Raises:
        ValueError: for another shape, or values outside [0, 1].
    """
    values = torch.as_tensor(image).detach().cpu().float().numpy()
    if values.ndim != 3 or len(values) not in (1, 3):
        raise ValueError(f"{name}: an image (1, H, W) or (3, H, W) was expected, got shape {values.shape}.")
    if not (values.min() >= 0 and values.max() <= 1):  # NaN fails too
        raise ValueError(f"{name}: values in [0, 1] were expected, got {values.min():g} to {values.max():g}.")
    pixels = np.rint(values * _GREYS).astype(np.uint8).transpose(1, 2, 0)
    return pixels[..., 0] if len(values) == 1 else pixels
