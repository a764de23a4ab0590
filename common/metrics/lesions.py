"""Lesions in volumes of several modalities: their parts as a segmenter reads them, and whether modalities agree."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..features.segmenter import Segmenter
from ..transforms.modalities import only_channel
from ..utils.images import plain_images
from .base import CaseMetric, side_of
from .consistency import check_labels, read_masks


class LesionDice(CaseMetric):
    """
    Dice of a mask and a segmenter's reading of the volume, of one part of a lesion or of several taken as one.

    Called with the volume and its mask, (N, C, *spatial) in [-1, 1] and (N, L, *spatial), positive inside a label. A
    case whose mask lacks the part has no value.

    Args:
        segmenter: reads the volumes; trained on none of them.
        labels: names of the mask's channels, which the segmenter reads in this order.
        parts: of ``labels``, whose union is looked at.
        title: of these parts, stands in the label.
        of: "generated" or "real", which volumes it is called with; stands in the label.

    Raises:
        ValueError: for parts that are not among the labels, or a segmenter that was trained to read other labels.

    Source: Dice 1945.

    >>> class Bright:
    ...     divisor, device, describe = 1, "cpu", dict
    ...     def network(self, x):
    ...         return torch.cat([-x, x], dim=1)
    >>> metric = LesionDice(Bright(), ["lesion"], ["lesion"], "lesion")
    >>> volume = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])[None, None]
    >>> _ = metric(volume, volume)
    >>> metric.label, float(metric.aggregate())
    ('dice[lesion]', 1.0)
    """

    def __init__(
        self, segmenter: Segmenter, labels: Sequence[str], parts: Sequence[str], title: str, of: str = "generated"
    ) -> None:
        super().__init__()
        self.channels = _channels(segmenter, labels, parts)
        self.segmenter, self.parts, self.title, self.of = segmenter, list(parts), title, side_of(of)

    @property
    def label(self) -> str:
        """Such as ``dice[oedema]`` and ``dice_real[oedema]``."""
        return f"dice[{self.title}]" if self.of == "generated" else f"dice_real[{self.title}]"

    def _values(self, y_pred: Tensor, y: Tensor | None) -> Tensor:
        if y is None:
            raise ValueError(f"{self.label} needs the masks.")
        inside = (plain_images(y, "masks")[:, self.channels] > 0).any(1)
        dice = _dice(_lesion(y_pred, self.segmenter, self.channels), inside.to(self.segmenter.device))
        return torch.where(inside.flatten(1).any(1), dice.to(inside.device), torch.nan)

    def report(self) -> dict[str, Any]:
        """The parts, and the segmenter."""
        return {"parts": self.parts, "segmenter": self.segmenter.describe()}


class ModalityAgreement(CaseMetric):
    """
    Whether a lesion lies in the same voxels in every modality: mean Dice of its outlines, each read from one alone.

    The segmenter sees one modality at a time, the others black, as a reader who is given one series; a case counts with
    the mean over all pairs of modalities. It must have been trained to read from one alone (``RandOnlyChanneld``), and
    what it reaches on real volumes is the value to be compared with: oedema is plain in FLAIR and hardly seen in T1.

    Args:
        segmenter: see ``LesionDice``.
        labels: see ``LesionDice``.
        parts: see ``LesionDice``.
        modalities: names of the volumes' channels.
        of: "generated" or "real", which volumes it is called with; stands in the label.

    Raises:
        ValueError: see ``LesionDice``; (when called) for volumes with other channels.

    Source: this project; Dice 1945.

    >>> class AnyBright:
    ...     divisor, device, describe = 1, "cpu", dict
    ...     def network(self, x):
    ...         return torch.cat([-x.amax(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)
    >>> metric = ModalityAgreement(AnyBright(), ["lesion"], ["lesion"], ["t1", "t2"])
    >>> _ = metric(torch.ones(1, 2, 3, 3))
    >>> float(metric.aggregate())
    1.0
    """

    def __init__(
        self,
        segmenter: Segmenter,
        labels: Sequence[str],
        parts: Sequence[str],
        modalities: Sequence[str],
        of: str = "generated",
    ) -> None:
        super().__init__()
        self.channels = _channels(segmenter, labels, parts)
        self.segmenter, self.parts, self.modalities, self.of = segmenter, list(parts), list(modalities), side_of(of)
        self.pairs = list(itertools.combinations(range(len(self.modalities)), 2))

    @property
    def label(self) -> str:
        """``agreement`` or ``agreement_real``."""
        return "agreement" if self.of == "generated" else "agreement_real"

    def _values(self, y_pred: Tensor, y: Tensor | None) -> Tensor:
        volumes = plain_images(y_pred)
        if volumes.shape[1] != len(self.modalities):
            raise ValueError(f"Volumes of {self.modalities} were expected, got {volumes.shape[1]} channels.")
        read = [
            _lesion(only_channel(volumes, channel), self.segmenter, self.channels)
            for channel in range(len(self.modalities))
        ]
        return torch.stack([_dice(read[a], read[b]) for a, b in self.pairs], 1).nanmean(1).cpu()

    def report(self) -> dict[str, Any]:
        """Parts, modalities, and the segmenter."""
        return {"parts": self.parts, "modalities": self.modalities, "segmenter": self.segmenter.describe()}


def lesion_metrics(
    segmenter: Segmenter,
    labels: Sequence[str],
    parts: Mapping[str, Sequence[str]],
    modalities: Sequence[str] = (),
    sides: Sequence[str] = ("generated", "real"),
) -> dict[str, CaseMetric]:
    """
    A ``LesionDice`` for each part and side, and ``ModalityAgreement`` of the last part where there are modalities.

    Args:
        segmenter, labels, modalities: see ``ModalityAgreement``.
        parts: title -> labels that are taken as one.
        sides: of "generated" and "real".

    Returns:
        Label -> metric, such as "dice[lesion]" and "agreement_real".
    """
    metrics: list[LesionDice | ModalityAgreement] = [
        LesionDice(segmenter, labels, of_part, title, side) for title, of_part in parts.items() for side in sides
    ]
    if modalities:
        last = list(parts.values())[-1]
        metrics += [ModalityAgreement(segmenter, labels, last, modalities, side) for side in sides]
    return {metric.label: metric for metric in metrics}


def _channels(segmenter: Segmenter, labels: Sequence[str], parts: Sequence[str]) -> list[int]:
    names = list(labels)
    if not parts or not set(parts) <= set(names):
        raise ValueError(f"parts of {names} were expected, got {list(parts)}.")
    check_labels(segmenter, names)
    return [names.index(part) for part in parts]


def _lesion(volumes: Tensor, segmenter: Segmenter, channels: Sequence[int]) -> Tensor:
    """(N, *spatial), bool: where the segmenter reads one of the labels."""
    return read_masks(volumes.to(segmenter.device), segmenter.network, segmenter.divisor)[:, channels].any(1)


def _dice(a: Tensor, b: Tensor) -> Tensor:
    """(N,), float64, of two bool masks; NaN where both are empty."""
    both, sizes = (a & b).flatten(1).sum(1).double(), a.flatten(1).sum(1).double() + b.flatten(1).sum(1)
    return 2 * both / sizes
