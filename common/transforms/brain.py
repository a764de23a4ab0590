"""The brain as a label of its own, for volumes whose brain was extracted."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import convert_to_tensor

from .checks import name_of
from .geometry import like


class BrainLabeld(MapTransform):
    """
    Give the background of a label map a label where an image is bright: the brain around a tumour.

    Args:
        keys: label maps, (1, *spatial), whole numbers.
        image_key: an image on the same grid, (1, *spatial), such as T1.
        label: value of the brain; the map must not have it yet.
        threshold: the brain is where the image is above it; 0 for volumes that are 0 outside of the brain.

    Raises:
        ValueError: (when called) by file: for a map that has the label already, or an image with nothing or nearly
            all (95 %) above the threshold, whose brain was not extracted.

    Source: Med-DDPM, section III.F (the brain as label 4, by a threshold of T1).

    Example:
        >>> case = {"label": torch.tensor([[[0, 2, 0]]]), "t1": torch.tensor([[[7.0, 7.0, 0.0]]])}
        >>> BrainLabeld("label", "t1", label=4)(case)["label"]
        tensor([[[4, 2, 0]]])
    """

    def __init__(self, keys: KeysCollection, image_key: str, label: int, threshold: float = 0.0) -> None:
        super().__init__(keys)
        self.image_key = image_key
        self.label = label
        self.threshold = threshold

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns a copy of ``data`` with the maps."""
        result = dict(data)
        brain = convert_to_tensor(data[self.image_key]) > self.threshold
        share = float(brain.float().mean())
        if not 0 < share < 0.95:
            raise ValueError(
                f"{name_of(data[self.image_key], self.image_key)}: {100 * share:.0f} % of the voxels are above "
                f"{self.threshold:g}, which was to tell the brain: extract the brain first, or set brain_threshold."
            )
        for key in self.key_iterator(result):
            labels = convert_to_tensor(result[key])
            if bool((labels == self.label).any()):
                raise ValueError(f"{name_of(result[key], str(key))}: the label {self.label} of the brain is taken.")
            result[key] = like(torch.where((labels == 0) & brain, self.label, labels), result[key])
        return result
