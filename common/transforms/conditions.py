"""What a restoration network is given: images scaled together, and images with a hole."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform
from monai.utils import convert_to_tensor
from torch import Tensor

from .geometry import like


class ScaleIntensityByd(MapTransform):
    """
    Scale images by the range of one of them, the one that is known at inference, and clip to [-1, 1].

    MONAI's scalers take each image's own range; a clean image scaled so would not fit its degraded version.

    Args:
        keys: the images, (C, H, W), scaled alike.
        by: key of the image whose smallest and largest values become -1 and ``b_max``.
        b_max: below 1 it leaves room for values that the degraded image has lost (super-resolution); at most 1.
        outside: key of a hole, (1, H, W): only the pixels where it is 0 count.

    Raises:
        ValueError: for a ``b_max`` outside (-1, 1]; (when called) for an image without contrast, by name.
    """

    def __init__(self, keys: KeysCollection, by: str, b_max: float = 1.0, outside: str | None = None) -> None:
        super().__init__(keys)
        if not -1 < b_max <= 1:
            raise ValueError(f"b_max must lie in (-1, 1], got {b_max}.")
        self.by = by
        self.b_max = b_max
        self.outside = outside

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns the case with ``keys`` as float32 in [-1, 1]."""
        result = dict(data)
        hole = None if self.outside is None else convert_to_tensor(data[self.outside])
        name = data.get("case") or getattr(data[self.by], "meta", {}).get("filename_or_obj", self.by)
        low, scale = known_range(convert_to_tensor(data[self.by]), hole, self.b_max, str(name))
        for key in self.key_iterator(result):
            result[key] = ((convert_to_tensor(data[key]).float() - low) * scale - 1).clamp(-1, 1)
            if isinstance(data[key], MetaTensor):
                result[key] = MetaTensor(
                    result[key], meta=data[key].meta, applied_operations=data[key].applied_operations
                )
        return result


class ScaleKnownRanged(MapTransform, InvertibleTransform):
    """
    Scale the smallest and the largest known value to -1 and ``b_max`` and clip to [-1, 1]; remembers the way back.

    The scaling of ``ScaleIntensityByd``, which training uses, with an inverse.

    Args:
        keys: (C, X, Y, Z).
        b_max: in (-1, 1].
        outside: key of a hole, (1, X, Y, Z): only the pixels where it is 0 are known.

    Raises:
        ValueError: for a ``b_max`` outside (-1, 1]; (when called) for an image without contrast, by name.
    """

    def __init__(
        self, keys: KeysCollection, b_max: float = 1.0, outside: str | None = None, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if not -1 < b_max <= 1:
            raise ValueError(f"b_max must lie in (-1, 1], got {b_max}.")
        self.b_max = b_max
        self.outside = outside

    def __call__(self, data: Mapping[Hashable, MetaTensor]) -> dict[Hashable, MetaTensor]:
        """Returns a copy of ``data``, float32 in [-1, 1]."""
        result = dict(data)
        for key in self.key_iterator(result):
            image = result[key].as_tensor()
            hole = None if self.outside is None else data[self.outside].as_tensor()
            name = str(result[key].meta.get("filename_or_obj", key))
            low, scale = known_range(image, hole, self.b_max, name)
            result[key] = like(((image - low) * scale - 1).clamp(-1, 1).float(), result[key])
            self.push_transform(result[key], extra_info={"low": low, "scale": scale})
        return result

    def inverse(self, data: Mapping[Hashable, MetaTensor]) -> dict[Hashable, MetaTensor]:
        """Returns a copy of ``data`` in the case's own units, float64."""
        result = dict(data)
        for key in self.key_iterator(result):
            own = self.pop_transform(result[key])["extra_info"]
            values = result[key].as_tensor().clamp(-1, 1).double()
            result[key] = like((values + 1) / float(own["scale"]) + float(own["low"]), result[key])
        return result


def known_range(image: Tensor, hole: Tensor | None, b_max: float, name: str) -> tuple[float, float]:
    """
    ``low`` and ``scale`` of ``(image - low) * scale - 1``, which takes the known pixels to [-1, ``b_max``].

    Args:
        image: (C, *spatial).
        hole: (1, *spatial), known where it is 0; None where all is known.
        b_max: see ``ScaleIntensityByd``.
        name: of the case, for the message.

    Raises:
        ValueError: when all known pixels are equal.
    """
    known = image if hole is None else image[hole.expand_as(image) == 0]
    low, high = (float(known.min()), float(known.max())) if known.numel() else (0.0, 0.0)
    if not high > low:
        raise ValueError(f"{name}: all known pixels have the value {low:g}; contrast was expected.")
    return low, (b_max + 1) / (high - low)


def holed(image: Tensor, hole: Tensor) -> Tensor:
    """
    The inpainting network's condition: the image with 0 in the hole, and the hole.

    Args:
        image: (..., 1, H, W), in [-1, 1].
        hole: (..., 1, H, W), 1 inside.

    Returns:
        (..., 2, H, W): the second channel is +1 inside and -1 outside.
    """
    inside = convert_to_tensor(hole) > 0.5
    return torch.cat([convert_to_tensor(image).masked_fill(inside, 0.0), inside.to(image.dtype) * 2 - 1], dim=-3)


class HoledConditiond(MapTransform):
    """
    ``holed`` for a case.

    Args:
        keys: the image, (1, H, W) in [-1, 1].
        hole_key: the hole, (1, H, W).
        result_key: for the condition, (2, H, W).
    """

    def __init__(self, keys: KeysCollection, hole_key: str = "hole", result_key: str = "condition") -> None:
        super().__init__(keys)
        self.hole_key = hole_key
        self.result_key = result_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns the case with the condition added."""
        return {**data, self.result_key: holed(data[self.keys[0]], data[self.hole_key])}
