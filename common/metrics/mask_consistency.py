"""Mask consistency: does a segmenter trained on real volumes find the input mask in the generated volume?"""

from __future__ import annotations

from typing import Any

import torch
from monai.metrics.meandice import compute_dice
from torch import Tensor, nn

from ..features.segmenter import Segmenter, WholeVolumeInferer
from ..utils.images import plain_images
from .base import CaseMetric, side_of


def read_masks(images: Tensor, network: nn.Module, divisor: int = 1) -> Tensor:
    """
    A segmenter's reading of volumes.

    Args:
        images: (N, 1, *spatial), scaled as the segmenter's training images.
        network: (N, 1, *spatial) -> (N, 1 + L, *spatial) scores, background first.
        divisor: sides that the network sees are multiples of it.

    Returns:
        (N, L, *spatial), float32, 1 inside a label and 0 outside.
    """
    with torch.no_grad():
        scores = WholeVolumeInferer(divisor)(plain_images(images).float(), network)
    found = scores.argmax(1)
    return torch.stack([found == label for label in range(1, scores.shape[1])], dim=1).float()


def mask_dice(images: Tensor, masks: Tensor, network: nn.Module, divisor: int = 1) -> Tensor:
    """
    Dice between masks and a segmenter's reading of the volumes.

    Args:
        images: (N, 1, *spatial).
        masks: (N, L, *spatial), positive inside a label.
        network: see ``read_masks``.
        divisor: see ``read_masks``.

    Returns:
        (N, L); NaN where a label is not in the mask.

    Raises:
        ValueError: when sizes differ, or the segmenter knows another number of labels.

    Source: Dice 1945, by MONAI's ``compute_dice``.
    """
    if images.shape[2:] != masks.shape[2:] or len(images) != len(masks):
        raise ValueError(f"Volumes {tuple(images.shape)} and masks {tuple(masks.shape)} do not fit.")
    reading = read_masks(images, network, divisor)
    if reading.shape != masks.shape:
        raise ValueError(f"The segmenter reads {reading.shape[1]} labels, the masks have {masks.shape[1]}.")
    inside = (plain_images(masks, "masks").to(reading.device) > 0).float()
    return compute_dice(reading, inside, include_background=True)


class MaskDice(CaseMetric):
    """
    Dice of a segmenter's reading against the input mask, a label, for generated or for real volumes.

    Called with the volume and its mask. The report sets the generated volumes' mean over the real ones', which is the
    mask consistency: 1 says that the input mask is as visible in the generated volumes as in real ones. A case counts
    with the mean over the labels that it has.

    Args:
        segmenter: trained on real volumes that are not among these.
        labels: names of the mask's channels.
        of: "generated" or "real", which volumes it is called with; stands in the label.

    Raises:
        ValueError: for another ``of``.

    >>> class Bright:
    ...     divisor, device, describe = 1, "cpu", dict
    ...     def network(self, x):
    ...         return torch.cat([-x, x], dim=1)
    >>> metric = MaskDice(Bright(), ["lesion"])
    >>> volume = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])[None, None]
    >>> _ = metric(volume, volume)
    >>> metric.report()["per_label"]
    {'lesion': 1.0}
    """

    def __init__(self, segmenter: Segmenter, labels: list[str] | dict[str, int], of: str = "generated") -> None:
        super().__init__()
        self.segmenter, self.labels, self.of = segmenter, list(labels), side_of(of)

    @property
    def label(self) -> str:
        """``mask_dice`` or ``mask_dice_real``."""
        return "mask_dice" if self.of == "generated" else "mask_dice_real"

    def _values(self, y_pred: Tensor, y: Tensor | None) -> Tensor:
        if y is None:
            raise ValueError("Mask consistency needs the masks.")
        device = self.segmenter.device
        return mask_dice(y_pred.to(device), y.to(device), self.segmenter.network, self.segmenter.divisor)

    def report(self) -> dict[str, Any]:
        """What stands beside the mean and its interval: the Dice of each label, and the segmenter."""
        means = zip(self.labels, self.rows().nanmean(0))
        return {"per_label": {name: float(value) for name, value in means}, "segmenter": self.segmenter.describe()}
