"""Intensity scaling by percentiles that can be undone."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform, ScaleIntensityRange
from monai.transforms.utils_pytorch_numpy_unification import percentile


class ScaleIntensityPercentiles(InvertibleTransform):
    """
    Scale a volume's percentiles to [b_min, b_max] and clip, as MONAI's ``ScaleIntensityRangePercentiles`` does,
    and remember the case's own range for the way back.

    What was clipped stays clipped: the inverse gives the image within its own percentiles.

    Args:
        lower: percentile that becomes ``b_min``, in [0, 100].
        upper: percentile that becomes ``b_max``, above ``lower``.
        b_min: lower end of the scaled range.
        b_max: upper end of the scaled range.

    Raises:
        ValueError: for percentiles out of order; (when called) for a volume whose two percentiles are equal.
    """

    def __init__(self, lower: float = 0.5, upper: float = 99.5, b_min: float = -1.0, b_max: float = 1.0) -> None:
        if not 0 <= lower < upper <= 100:
            raise ValueError(f"0 <= lower < upper <= 100 was expected, got {lower} and {upper}.")
        self.lower = lower
        self.upper = upper
        self.b_min = b_min
        self.b_max = b_max

    def __call__(self, img: torch.Tensor) -> torch.Tensor:
        """
        Args:
            img: (C, *spatial), any real dtype and range.

        Returns:
            The same shape, float32, in [b_min, b_max]; a ``MetaTensor`` that knows how to go back.
        """
        image = img if isinstance(img, MetaTensor) else MetaTensor(img)
        a_min, a_max = (percentile(image.as_tensor(), q) for q in (self.lower, self.upper))  # tensors, as in MONAI
        if not a_max > a_min:
            name = image.meta.get("filename_or_obj", "image")
            raise ValueError(
                f"{name}: percentiles {self.lower} and {self.upper} are {float(a_min):g} and {float(a_max):g}; "
                "an image with contrast was expected."
            )
        scaled: Any = ScaleIntensityRange(a_min, a_max, self.b_min, self.b_max, clip=True)(image)  # type: ignore[arg-type]
        self.push_transform(scaled, extra_info={"a_min": float(a_min), "a_max": float(a_max)})
        return scaled

    def inverse(self, data: torch.Tensor) -> torch.Tensor:
        """
        Back to the case's own intensities.

        Args:
            data: (C, *spatial) in [b_min, b_max], a ``MetaTensor`` with this transform on top of its history.

        Returns:
            The same shape, float32, within the case's percentiles.
        """
        own = self.pop_transform(data)["extra_info"]
        back: Any = ScaleIntensityRange(self.b_min, self.b_max, float(own["a_min"]), float(own["a_max"]), clip=True)
        return back(data)


class ScaleIntensityPercentilesd(MapTransform, InvertibleTransform):
    """Dictionary version of ``ScaleIntensityPercentiles``: the same arguments after ``keys``."""

    def __init__(
        self,
        keys: KeysCollection,
        lower: float = 0.5,
        upper: float = 99.5,
        b_min: float = -1.0,
        b_max: float = 1.0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.scaler = ScaleIntensityPercentiles(lower, upper, b_min, b_max)

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        """Returns a copy of ``data`` with the volumes of ``keys`` scaled."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.scaler(result[key])
        return result

    def inverse(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        """Returns a copy of ``data`` with the volumes of ``keys`` in their own intensities."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.scaler.inverse(result[key])
        return result
