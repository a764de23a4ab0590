"""Images from files as a 2D network takes them: grey."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from .images import read_image

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601

logger = logging.getLogger(__name__)


class LoadImageFiled(MapTransform):
    """
    Read PNG, JPEG, NIfTI or DICOM as (C, X, Y, Z), see ``read_image``; colour becomes grey, with a notice.

    ``LoadImaged`` tries one reader after the other and hides what each says; and none of them turns MONOCHROME1 over.

    Args:
        keys: paths.

    Raises:
        ValueError: and others of ``read_image`` (when called), which name the file.
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self._noted: set[str] = set()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns a copy of ``data`` with (1, X, Y, Z) float64 images, Z = 1 for a single one."""
        result = dict(data)
        for key in self.key_iterator(result):
            path = str(result[key])
            image = read_image(path)
            values = image.values
            if len(values) > 1:
                values = self._grey(values, path)
            meta = {"filename_or_obj": path, "spatial_shape": np.array(values.shape[1:])}
            affine = torch.from_numpy(image.affine.copy())
            tensor = torch.from_numpy(np.ascontiguousarray(values))
            result[key] = MetaTensor(tensor, affine=affine, meta={**meta, "original_affine": image.affine.copy()})
        return result

    def _grey(self, values: np.ndarray, path: str) -> np.ndarray:
        if path not in self._noted:  # a run reads each file twice: to check it, and to restore it
            self._noted.add(path)
            logger.warning("%s is in colour; grey was expected: its luminance is taken, and written in grey.", path)
        if (values == values[:1]).all():
            return values[:1]
        return np.rint(np.tensordot(_LUMA, values, axes=1))[None]
