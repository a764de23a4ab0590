"""A crop that says which labels it leaves out."""

from __future__ import annotations

import logging
from collections.abc import Collection, Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import ResizeWithPadOrCropd as MonaiResizeWithPadOrCropd

from .checks import name_of, voxels_of

logger = logging.getLogger(__name__)


class ResizeWithPadOrCropd(MonaiResizeWithPadOrCropd):
    """
    MONAI's ``ResizeWithPadOrCropd``, which loses no label in silence.

    Args:
        keys: images, (C, *spatial).
        spatial_size: of the result.
        labels: keys among them that hold label maps, whole numbers, 0 for the background; a label of which a part is
            cut off is named in a warning.
        kwargs: of MONAI's class; not ``lazy``.

    Raises:
        ValueError: (when called) when nothing of a label is left, by file.

    Example:
        >>> import torch
        >>> labels = torch.zeros(1, 4, 6, 6); labels[0, 2, 5, 5] = 3
        >>> ResizeWithPadOrCropd("label", (4, 4, 4), labels=["label"])({"label": labels})
        Traceback (most recent call last):
        ValueError: label: the labels [3] lie outside the middle 4 x 4 x 4 voxels, which are all that is used: ...
    """

    def __init__(self, keys: KeysCollection, spatial_size: Any, labels: Collection[str] = (), **kwargs: Any) -> None:
        super().__init__(keys, spatial_size, **kwargs)
        self.labels = tuple(labels)

    def __call__(self, data: Mapping[Hashable, Any], lazy: bool | None = None) -> dict[Hashable, Any]:
        """Returns a copy of ``data``, padded and cropped."""
        result: dict[Hashable, Any] = super().__call__(data, lazy)
        for key in self.labels:
            before, after = (voxels_of(case[key]) for case in (data, result))
            name, size = name_of(data[key], key), " x ".join(map(str, result[key].shape[1:]))
            lost = sorted(value for value in before if value and value not in after)
            if lost:
                raise ValueError(
                    f"{name}: the labels {lost} lie outside the middle {size} voxels, which are all that is used: set "
                    "spatial_size larger or to None, or crop the file around them."
                )
            cut = {
                value: f"{100 * after[value] / n:.0f} %" for value, n in before.items() if value and after[value] < n
            }
            if cut:
                logger.warning("%s: only the middle %s voxels are used, with this part of labels: %s.", name, size, cut)
        return result
