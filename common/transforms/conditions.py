"""What a network is given: images scaled by what is known, a channel for each label, the number of a class."""

from __future__ import annotations

import logging
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform
from monai.transforms.utils_pytorch_numpy_unification import percentile
from monai.utils import convert_to_tensor
from torch import Tensor

from ..utils.images import on_cpu
from .checks import name_of, nearly_whole
from .geometry import like

_SHOWN = 8  # of label values, in messages
_FEW = 2e-4  # share of the pixels, on either side, that may be hot

logger = logging.getLogger(__name__)


class ScaleIntensityByd(MapTransform, InvertibleTransform):
    """
    Scale images by a range that is known at inference, and clip to [-1, 1]; the inverse brings results back.

    MONAI's scalers take each image's own range; a clean image scaled so would not fit its degraded version.

    Args:
        keys: the images, (C, *spatial).
        by: key of the image whose smallest and largest values become -1 and ``b_max``; None for each image's own, less
            single pixels that would more than double the range (hot pixels), with a notice.
        b_max: below 1 it leaves room for values that the degraded image has lost (super-resolution); at most 1.
        outside: key of a hole, (1, *spatial): only the pixels where it is 0 are known.
        percentiles: of the known values that are taken for the smallest and the largest, such as (0.5, 99.5); None
            for the extremes themselves.
        range_key: key of a range (low, high) of the whole patient (``with_ranges``), which is taken instead; None for
            that of the image.

    Raises:
        ValueError: for a ``b_max`` outside (-1, 1]; (when called) for an image without contrast, by name.

    Example:
        >>> case = {"image": torch.tensor([[[0.0, 50.0]]]), "label": torch.tensor([[[25.0, 100.0]]])}
        >>> ScaleIntensityByd(["image", "label"], by="image")(case)["label"]
        tensor([[[0., 1.]]])
    """

    def __init__(
        self,
        keys: KeysCollection,
        by: str | None = None,
        b_max: float = 1.0,
        outside: str | None = None,
        percentiles: tuple[float, float] | None = None,
        range_key: str | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if not -1 < b_max <= 1:
            raise ValueError(f"b_max must lie in (-1, 1], got {b_max}.")
        self.percentiles = percentiles
        self.range_key = range_key
        self.by = by
        self.b_max = b_max
        self.outside = outside

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns the case with ``keys`` as float32 in [-1, 1]; a ``MetaTensor`` remembers the way back."""
        result = dict(data)
        hole = None if self.outside is None else data[self.outside]
        for key in self.key_iterator(result):
            by = key if self.by is None else self.by
            name = str(data.get("case") or name_of(data[by], str(by)))
            given = None if self.range_key is None else data[self.range_key]
            low, high = _known_range(data[by], hole, name, self.by is None, self.percentiles, given)
            scale = (self.b_max + 1) / (high - low)
            values = ((convert_to_tensor(data[key]) - low) * scale - 1).clamp(-1, 1).float()
            result[key] = like(values, data[key])
            if isinstance(data[key], MetaTensor):
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
        range_key: see ``ScaleIntensityByd``.

    Raises:
        ValueError: (when called) for an image without contrast, by name.

    Example:
        >>> case = {"pred": torch.ones(1, 2), "noisy": torch.tensor([[0.0, 8]]), "label": torch.tensor([[0.0, 16]])}
        >>> MeasuredScaled("pred", given="noisy")(case)["pred"]
        tensor([[0., 0.]])
    """

    def __init__(
        self,
        keys: KeysCollection,
        given: str,
        clean: str = "label",
        b_max: float = 1.0,
        outside: str | None = None,
        scale_key: str = "measured_scale",
        range_key: str | None = None,
    ) -> None:
        super().__init__(keys)
        self.given = given
        self.range_key = range_key
        self.clean = clean
        self.b_max = b_max
        self.outside = outside
        self.scale_key = scale_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns the case with ``keys``, ``given`` and ``clean`` as float32 in [-1, 1] on the CPU."""
        result = on_cpu(data)
        given, clean = result[self.given], result[self.clean]
        name = str(data.get("case", self.clean))
        known = None if self.range_key is None else data[self.range_key]
        low, high = _known_range(given, None if self.outside is None else result[self.outside], name, of_patient=known)
        dark, bright = _known_range(clean, None, name)
        unit = (high - low) / (self.b_max + 1)
        gain, offset = 2 * unit / (bright - dark), 2 * (low + unit - dark) / (bright - dark) - 1
        for key in self.key_iterator(result):
            result[key] = (result[key].float() * gain + offset).clamp(-1, 1)
        for key in {self.given, self.clean}:
            result[key] = (2 * (result[key].float() - dark) / (bright - dark) - 1).clamp(-1, 1)
        result[self.scale_key] = torch.tensor([gain, offset], dtype=torch.float64)
        return result


class LabelsToChannelsd(MapTransform):
    """
    A label map as one channel a label, +1 inside and -1 outside; the background has no channel.

    MONAI's ``AsDiscrete(to_onehot=…)`` keeps the background, numbers the channels by value, and takes unknown and
    missing values in silence.

    Args:
        keys: label maps, (1, *spatial), whole numbers of any dtype; see ``nearly_whole``.
        labels: name -> value in the map, in the order of the channels, e.g. ``{"head": 1, "tumour": 2}``.
        optional: names that a case may lack (a healthy head has no tumour); every other label is required.
        background: value that has no channel.

    Raises:
        ValueError: when two labels share a value, a label has the background's, or ``optional`` names no label; (when
            called) for values that are not declared, required labels that are missing, or several channels, by file.

    Source: Med-DDPM, section II (one-hot without background).

    Example:
        >>> channels = LabelsToChannelsd("mask", {"head": 1, "tumour": 2}, optional=["tumour"])
        >>> channels({"mask": torch.tensor([[[0, 1]]])})["mask"]
        tensor([[[-1.,  1.]],
        <BLANKLINE>
                [[-1., -1.]]])
    """

    def __init__(
        self,
        keys: KeysCollection,
        labels: Mapping[str, int],
        optional: Collection[str] = (),
        background: int = 0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if len({*labels.values(), background}) != len(labels) + 1:
            raise ValueError(f"labels must have different values, none of them {background}: {dict(labels)}.")
        unknown = set(optional) - set(labels)
        if unknown:
            raise ValueError(f"optional names {sorted(unknown)}, which labels {sorted(labels)} lacks.")
        self.labels = dict(labels)
        self.optional = set(optional)
        self.background = background

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns the case with (number of labels, *spatial), float32; a ``MetaTensor`` stays one."""
        result = dict(data)
        for key in self.key_iterator(result):
            values = torch.as_tensor(nearly_whole(result[key]))
            self._check(convert_to_tensor(values), name_of(result[key], "label map"))
            result[key] = torch.cat([(values == value).float() * 2 - 1 for value in self.labels.values()], dim=0)
        return result

    def _check(self, values: Tensor, name: str) -> None:
        if values.ndim < 3 or values.shape[0] != 1:
            raise ValueError(f"{name}: a label map of one channel was expected, got shape {tuple(values.shape)}.")
        found = {float(v) for v in torch.unique(values)}
        known = {float(v) for v in self.labels.values()} | {float(self.background)}
        if not found <= known:
            raise ValueError(
                f"{name}: label values {_listed(found - known)} are not in the label dictionary "
                f"{self.labels} (background {self.background})."
            )
        missing = [n for n, v in self.labels.items() if float(v) not in found and n not in self.optional]
        if missing:
            empty = " The mask is empty." if found <= {float(self.background)} else ""
            raise ValueError(f"{name}: required labels {missing} are missing; values found: {_listed(found)}.{empty}")


class ClassIndexd(MapTransform):
    """
    The number of a case's class.

    Args:
        keys: the class's name.
        classes: names in the order of a classifier's outputs.
        result_key: for the number, a long scalar.

    Raises:
        ValueError: (when called) for a class that is not among them, with the case's name.

    Example:
        >>> ClassIndexd("class", ["glioma", "none"])({"class": "none"})["class_index"]
        tensor(1)
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


def _known_range(
    image: Any,
    hole: Any,
    name: str,
    robust: bool = False,
    percentiles: tuple[float, float] | None = None,
    of_patient: Sequence[Any] | None = None,
) -> tuple[float, float]:
    """The smallest and the largest known value; ``robust`` leaves out the few outermost pixels, with a notice."""
    if of_patient is not None:
        low, high = (float(value) for value in of_patient)
        if not high > low:
            raise ValueError(f"{name}: all pixels of the patient have the value {low:g}; contrast was expected.")
        return low, high
    image = convert_to_tensor(image)
    known = image.flatten() if hole is None else image[convert_to_tensor(hole).expand_as(image) == 0]
    if percentiles is not None and known.numel():
        known = torch.tensor([percentile(known, q) for q in percentiles])
    if not known.numel():
        raise ValueError(f"{name}: no pixel is known, the hole touches all that the network sees (see --fit).")
    low, high = float(known.min()), float(known.max())
    if not high > low:
        raise ValueError(f"{name}: all known pixels have the value {low:g}; contrast was expected.")
    few = max(1, round(_FEW * known.numel()))
    if robust and known.numel() > 100:
        inner = [float(known.kthvalue(rank).values) for rank in (1 + few, known.numel() - few)]
        if 0 < 2 * (inner[1] - inner[0]) < high - low:
            logger.warning(
                "%s: %g to %g, set by at most %d pixels; the range of the others, %g to %g, is taken, and what lies "
                "outside is limited to it.",
                *(name, low, high, 2 * few, *inner),
            )
            return inner[0], inner[1]
    return low, high


def _listed(values: Collection[float]) -> str:
    shown = [str(int(v) if v == int(v) else v) for v in sorted(values)]
    more = [f"... ({len(shown)} in all)"] if len(shown) > _SHOWN else []
    return f"[{', '.join([*shown[:_SHOWN], *more])}]"
