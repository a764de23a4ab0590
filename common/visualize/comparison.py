"""Restored images of several methods side by side, all in the clean image's scale, as they are measured."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from torch import Tensor


class MeasuredScaled(MapTransform):
    """
    Bring everything to the scale in which the clean image spans [-1, 1], and clip to it.

    A network sees an image by the range that is known at inference; a difference of two images means something in one
    scale only. It is the inverse of ``ScaleIntensityByd`` for the network's images, then the same scaling for all.

    Args:
        keys: what the network gave, (C, H, W), in the scale of its input.
        given: key of the image, (C, H, W) in the file's units, whose range became -1 and ``b_max`` for the network.
        clean: key of the clean image, (C, H, W) in the file's units.
        b_max: see ``ScaleIntensityByd``.
        outside: key of a hole: only the pixels of ``given`` where it is 0 counted.
        scale_key: for the two numbers (gain, offset) that lead from the network's scale to the clean image's.

    Raises:
        ValueError: (when called) for an image without contrast, by name.
    """

    def __init__(
        self,
        keys: KeysCollection,
        given: str,
        clean: str = "label",
        b_max: float = 1.0,
        outside: str | None = None,
        scale_key: str = "measured_scale",
    ) -> None:
        super().__init__(keys)
        self.given = given
        self.clean = clean
        self.b_max = b_max
        self.outside = outside
        self.scale_key = scale_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns the case with ``keys``, ``given`` and ``clean`` as float32 in [-1, 1] on the CPU."""
        result = {key: _on_cpu(value) for key, value in data.items()}
        given, clean = result[self.given], result[self.clean]
        known = given if self.outside is None else given[result[self.outside].expand_as(given) == 0]
        name = str(data.get("case", self.clean))
        (low, high), (dark, bright) = _range(known, name), _range(clean, name)
        unit = (high - low) / (self.b_max + 1)
        gain, offset = 2 * unit / (bright - dark), 2 * (low + unit - dark) / (bright - dark) - 1
        for key in self.key_iterator(result):
            result[key] = (result[key].float() * gain + offset).clamp(-1, 1)
        for key in {self.given, self.clean}:
            result[key] = (2 * (result[key].float() - dark) / (bright - dark) - 1).clamp(-1, 1)
        result[self.scale_key] = torch.tensor([gain, offset], dtype=torch.float64)
        return result


class MethodImagesd(Transform):
    """
    Add what each method makes of a case, under the method's name.

    Args:
        methods: name -> called with the case, returns (C, H, W) in the clean image's scale; clipped to [-1, 1].
        clean: key of the clean image, whose shape all must have.

    Raises:
        ValueError: (when called) for a name that the case has already, another shape, NaN or infinity.
    """

    def __init__(self, methods: Mapping[str, Callable[[Mapping[Hashable, Any]], Tensor]], clean: str = "label") -> None:
        self.methods = dict(methods)
        self.clean = clean

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns the case with an image a method, float32."""
        case = {key: _on_cpu(value) for key, value in data.items()}
        taken = sorted(set(self.methods) & {str(key) for key in case})
        if taken:
            raise ValueError(f"Methods cannot be named {taken}: the case has such items.")
        return {**case, **{name: self._image(name, method(case), case) for name, method in self.methods.items()}}

    def _image(self, name: str, image: Tensor, case: Mapping[Hashable, Any]) -> Tensor:
        image = _on_cpu(image).float()
        wanted = tuple(case[self.clean].shape)
        if tuple(image.shape) != wanted or not bool(torch.isfinite(image).all()):
            found = f"{tuple(image.shape)}" if tuple(image.shape) != wanted else "NaN or infinity"
            raise ValueError(f"Method {name}, case {case.get('case')}: {wanted}, finite, was expected, got {found}.")
        return image.clamp(-1, 1)


class ClassIndexd(MapTransform):
    """
    The number of a case's class.

    Args:
        keys: the class's name.
        classes: names in the order of a classifier's outputs.
        result_key: for the number, a long scalar.

    Raises:
        ValueError: (when called) for a class that is not among them, with the case's name.
    """

    def __init__(self, keys: KeysCollection, classes: Sequence[str], result_key: str = "class_index") -> None:
        super().__init__(keys)
        self.classes = list(classes)
        self.result_key = result_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns the case with the number added."""
        name = data[self.keys[0]]
        if name not in self.classes:
            raise ValueError(f"{data.get('case')}: a class of {self.classes} was expected, got {name!r}.")
        return {**data, self.result_key: torch.tensor(self.classes.index(name))}


def _range(image: Tensor, name: str) -> tuple[float, float]:
    low, high = (float(image.min()), float(image.max())) if image.numel() else (0.0, 0.0)
    if not high > low:
        raise ValueError(f"{name}: all known pixels have the value {low:g}; an image with contrast was expected.")
    return low, high


def _on_cpu(value: Any) -> Any:
    plain = value.as_tensor() if isinstance(value, MetaTensor) else value
    return plain.detach().cpu() if isinstance(plain, Tensor) else plain
