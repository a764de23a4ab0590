"""Images scaled by their own percentiles, for networks that generate or measure whole volumes."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.transforms import ScaleIntensityRangePercentilesd as MonaiScaleIntensityRangePercentilesd
from monai.transforms.utils_pytorch_numpy_unification import percentile
from monai.utils import convert_to_tensor

from .checks import name_of


class ScaleIntensityRangePercentilesd(MonaiScaleIntensityRangePercentilesd):
    """
    Scale images as MONAI's transform of this name does, and refuse those without contrast.

    Where both percentiles are one value, MONAI only shifts the image: an organ in a large black volume keeps the units
    of its file, a volume of one value becomes ``b_min``, and both are trained on.

    Args:
        args, kwargs: of MONAI's transform, with ``keys``, ``lower`` and ``upper``.

    Raises:
        ValueError: (when called) for an image, or a channel where each is scaled alone, without contrast, by file.

    Example:
        >>> import torch
        >>> scaled = ScaleIntensityRangePercentilesd("image", lower=0, upper=100, b_min=-1, b_max=1)
        >>> scaled({"image": torch.full((1, 2, 2, 2), 7.0)})
        Traceback (most recent call last):
        ValueError: image: percentiles 0 and 100 are both 7; contrast was expected.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns a copy of ``data``, scaled."""
        scaler = self.scaler
        for key in self.key_iterator(dict(data)):
            image = convert_to_tensor(data[key], track_meta=False)
            for part in image if scaler.channel_wise else [image]:
                low, high = (float(percentile(part, share)) for share in (scaler.lower, scaler.upper))
                if not high > low:
                    shares = f"percentiles {scaler.lower:g} and {scaler.upper:g} are both {low:g}"
                    raise ValueError(f"{name_of(data[key], str(key))}: {shares}; contrast was expected.")
        result: dict[Hashable, Any] = super().__call__(data)
        return result
