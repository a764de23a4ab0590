"""Label maps as conditions: checked against a declared dictionary, then one channel a label."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping

import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform


class LabelsToChannels(Transform):
    """
    A label map as one channel a label, +1 inside and -1 outside; the background has no channel.

    MONAI's ``AsDiscrete(to_onehot=…)`` keeps the background, numbers the channels by value, and takes unknown and
    missing values in silence.

    Args:
        labels: name -> value in the map, in the order of the channels, e.g. ``{"head": 1, "tumour": 2}``.
        optional: names that a case may lack (a healthy head has no tumour); every other label is required.
        background: value that has no channel.

    Raises:
        ValueError: when two labels share a value, a label has the background's, or ``optional`` names no label.

    Source: Med-DDPM, section II (one-hot without background).
    """

    def __init__(self, labels: Mapping[str, int], optional: Collection[str] = (), background: int = 0) -> None:
        if len({*labels.values(), background}) != len(labels) + 1:
            raise ValueError(f"labels must have different values, none of them {background}: {dict(labels)}.")
        unknown = set(optional) - set(labels)
        if unknown:
            raise ValueError(f"optional names {sorted(unknown)}, which labels {sorted(labels)} lacks.")
        self.labels = dict(labels)
        self.optional = set(optional)
        self.background = background

    def __call__(self, img: NdarrayOrTensor) -> torch.Tensor:
        """
        Args:
            img: label map, (1, *spatial), whole numbers of any dtype.

        Returns:
            (number of labels, *spatial), float32, -1 or 1; a ``MetaTensor`` stays one.

        Raises:
            ValueError: for values that are not declared, required labels that are missing, or several channels; the
                message names the file (where the metadata knows it), the values and the labels.
        """
        values = torch.as_tensor(img)
        name = _name_of(img)
        if values.ndim < 3 or values.shape[0] != 1:
            raise ValueError(f"{name}: a label map of one channel was expected, got shape {tuple(values.shape)}.")
        found = {float(v) for v in torch.unique(values.as_tensor() if isinstance(values, MetaTensor) else values)}
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
        return torch.cat([(values == value).float() * 2 - 1 for value in self.labels.values()], dim=0)


class LabelsToChannelsd(MapTransform):
    """Dictionary version of ``LabelsToChannels``: the same arguments after ``keys``."""

    def __init__(
        self,
        keys: KeysCollection,
        labels: Mapping[str, int],
        optional: Collection[str] = (),
        background: int = 0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.converter = LabelsToChannels(labels, optional, background)

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """Returns a copy of ``data`` with the channels under each of ``keys``."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.converter(result[key])
        return result


def _name_of(img: NdarrayOrTensor) -> str:
    name = img.meta.get("filename_or_obj") if isinstance(img, MetaTensor) else None
    return str(name or "label map")


def _listed(values: Collection[float]) -> str:
    return str([int(v) if v == int(v) else v for v in sorted(values)])
