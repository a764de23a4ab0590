"""Mask consistency: does a segmenter trained on real volumes find the input mask in the generated volume?"""

from __future__ import annotations

from typing import Any

import torch
from monai.metrics import CumulativeIterationMetric
from monai.metrics.meandice import compute_dice
from torch import Tensor, nn

from ..features.segmenter import Segmenter, WholeVolumeInferer
from .sets import plain_images


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


class MaskDice(CumulativeIterationMetric):
    """
    Dice of a segmenter's reading against the input mask, a label, for generated or for real volumes.

    Called with the volume and its mask. The report sets the generated volumes' mean over the real ones', which is the
    mask consistency: 1 says that the input mask is as visible in the generated volumes as in real ones.

    Args:
        segmenter: trained on real volumes that are not among these.
        labels: names of the mask's channels.
    """

    def __init__(self, segmenter: Segmenter, labels: list[str] | dict[str, int]) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.labels = list(labels)

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **kwargs: Any) -> Tensor:
        if y is None:
            raise ValueError("Mask consistency needs the masks.")
        device = self.segmenter.device
        return mask_dice(y_pred.to(device), y.to(device), self.segmenter.network, self.segmenter.divisor)

    def aggregate(self) -> Tensor:  # type: ignore[override]
        """Returns the mean over cases of the mean over the labels that a case has."""
        return self.per_case().nanmean()

    def per_case(self) -> Tensor:
        """Mean over the labels that a case has, (n,), float64."""
        return self.get_buffer().double().nanmean(1)

    def report(self) -> dict[str, Any]:
        """What stands beside the mean and its interval: the Dice of each label, and the segmenter."""
        means = self.get_buffer().double().nanmean(0)
        return {
            "per_label": {name: float(value) for name, value in zip(self.labels, means)},
            "segmenter": self.segmenter.describe(),
        }
