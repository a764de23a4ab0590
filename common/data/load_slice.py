"""One slice of a volume, read when it is needed."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform

from ..transforms.geometry import SlicesLastd


class LoadSliced(MapTransform):
    """
    Read the slice of a case of ``slice_cases``, and that slice alone (of a compressed file, what lies before it too).

    It lies as in print, x to the right and y down, as inference takes slices (``SlicesLastd``).

    Args:
        keys: path of a NIfTI file; the case has "axis", "slice" and "channel" (-1 for a 3D file) as well.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns the case with (1, X, Y) float32 images."""
        result = dict(data)
        for key in self.key_iterator(result):
            file: Any = nib.load(result[key])  # type: ignore[attr-defined]
            index: list[Any] = [slice(None)] * 3
            index[data["axis"]] = slice(data["slice"], data["slice"] + 1)
            if data["channel"] >= 0:
                index.append(data["channel"])
            values = np.array(file.dataobj[tuple(index)], dtype=np.float32)[None]
            meta = {"filename_or_obj": str(result[key])}
            volume = MetaTensor(torch.from_numpy(values), affine=torch.from_numpy(file.affine.copy()), meta=meta)
            shown = SlicesLastd("image")({"image": volume})["image"]
            result[key] = MetaTensor(shown.as_tensor()[..., 0].contiguous(), meta={**meta})
        return result
