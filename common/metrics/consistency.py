"""What networks read in generated images: the class that they should show, the mask that they were made for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.metrics.meandice import compute_dice
from torch import Tensor, nn

from ..features.segmenter import Segmenter, WholeVolumeInferer
from ..utils.images import plain_images
from .base import CaseMetric, side_of
from .intervals import binomial_interval, percentile_interval, resampled_sums

SCORES = ("loss", "accuracy", "precision", "recall", "f1")
_SMALLEST = 1e-12


def classification_scores(
    probabilities: Sequence[np.ndarray] | np.ndarray,
    labels: np.ndarray,
    groups: Sequence[str] | np.ndarray | None = None,
    seed: int = 0,
    resamples: int = 1000,
) -> dict[str, Any]:
    """
    Scores of one classifier, or means over several of the same images (the networks of the folds).

    Args:
        probabilities: (n, classes), or one such array a network, rows adding up to 1.
        labels: class indices, (n,).
        groups: what images belong together, n names; None: each stands for itself. The interval is over groups, since
            near copies of an image say nothing new.
        seed: of the bootstrap.
        resamples: of the bootstrap.

    Returns:
        Score -> {"value", "interval95", "each" (a value a network), "n"}, and "confusion": (classes, classes) counts,
        true class by row, summed over the networks. Precision of a class that is never found is 0.

    Raises:
        ValueError: for no image, other shapes, or a class index out of range.

    Source: Nafi et al. 2024, eq. 15 to 18, precision, recall and F1 as means over the classes; Efron 1979.
    """
    one = isinstance(probabilities, np.ndarray) and probabilities.ndim == 2
    arrays = [np.asarray(p, dtype=np.float64) for p in ([probabilities] if one else probabilities)]
    labels = np.asarray(labels)
    _check(arrays, labels)
    names, member = np.unique(groups if groups is not None else np.arange(len(labels)), return_inverse=True)
    counts = np.stack([_group_counts(p, labels, member, len(names)) for p in arrays])  # (networks, groups, C * C + 1)
    classes = arrays[0].shape[1]
    each = _scores(counts.sum(1), classes)
    drawn = _scores(resampled_sums(counts, seed, resamples), classes) if len(names) > 1 else None
    result: dict[str, Any] = {}
    for name in SCORES:
        interval = None if drawn is None else percentile_interval(drawn[name].mean(1), sizes=[len(names)])
        values = [float(v) for v in each[name]]
        result[name] = {"value": float(np.mean(values)), "interval95": interval, "each": values, "n": len(labels)}
    result["confusion"] = counts.sum((0, 1))[:-1].reshape(classes, classes).astype(int).tolist()
    return result


def _check(arrays: Sequence[np.ndarray], labels: np.ndarray) -> None:
    shapes = {array.shape for array in arrays}
    if len(labels) == 0 or len(shapes) != 1 or arrays[0].ndim != 2 or len(arrays[0]) != len(labels):
        raise ValueError(
            f"(n, classes) probabilities and n labels were expected, got {sorted(shapes)}, {labels.shape}."
        )
    if labels.min() < 0 or labels.max() >= arrays[0].shape[1]:
        raise ValueError(
            f"Class indices below {arrays[0].shape[1]} were expected, got {labels.min()} to {labels.max()}."
        )
    if not all(np.allclose(array.sum(1), 1, atol=1e-3) for array in arrays):
        raise ValueError("Probabilities that add up to 1 were expected in each row.")


def _group_counts(probabilities: np.ndarray, labels: np.ndarray, member: np.ndarray, groups: int) -> np.ndarray:
    """(groups, classes² + 1): confusion matrix and summed loss of each group."""
    classes = probabilities.shape[1]
    counts = np.zeros((groups, classes * classes + 1))
    np.add.at(counts, (member, labels * classes + probabilities.argmax(1)), 1)
    chosen = probabilities[np.arange(len(labels)), labels]
    np.add.at(counts, (member, classes * classes), -np.log(np.maximum(chosen, _SMALLEST)))
    return counts


def _scores(counts: np.ndarray, classes: int) -> dict[str, np.ndarray]:
    """(..., classes² + 1) -> score -> (...)."""
    confusion = counts[..., :-1].reshape(*counts.shape[:-1], classes, classes)
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    true, found, total = confusion.sum(-1), confusion.sum(-2), confusion.sum((-2, -1))
    precision, recall, f1 = _ratio(right, found), _ratio(right, true), _ratio(2 * right, true + found)
    # A class without an image in a resample has no recall; it is left out there.
    present = true > 0
    means = [(values * present).sum(-1) / present.sum(-1) for values in (precision, recall, f1)]
    return dict(zip(SCORES, (counts[..., -1] / total, right.sum(-1) / total, *means)))


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


class ClassAccuracy(CaseMetric):
    """
    Share of images whose class a classifier finds: the downstream task of restored images.

    Called with images and their class indices, (N,) or (N, 1).

    Args:
        network: (N, C, *spatial) in [-1, 1] -> (N, classes) logits, in eval mode.
        name: of the classifier, stands in the label.
        device: to compute on.

    >>> metric = ClassAccuracy(lambda images: torch.stack([1 - images.mean((1, 2, 3)), images.mean((1, 2, 3))], 1))
    >>> _ = metric(torch.ones(2, 1, 4, 4), torch.tensor([1, 0]))
    >>> metric.label, float(metric.aggregate())
    ('accuracy[classifier]', 0.5)
    """

    def __init__(self, network: nn.Module, name: str = "classifier", device: str | torch.device = "cpu") -> None:
        super().__init__()
        self.network = network
        self.name = name
        self.device = torch.device(device)

    @property
    def label(self) -> str:
        """Such as ``accuracy[vgg11]``."""
        return f"accuracy[{self.name}]"

    def _values(self, y_pred: Tensor, y: Tensor | None) -> Tensor:
        if y is None or y.numel() != len(y_pred):
            raise ValueError(f"{self.label} needs one class index an image.")
        with torch.no_grad():
            found = self.network(plain_images(y_pred).float().to(self.device)).argmax(1).cpu()
        return found == y.cpu().long().flatten()

    def report(self) -> dict[str, Any]:
        """Number of right answers, and the exact interval of the accuracy."""
        right = self.per_case()
        k, n = int(right.sum()), len(right)
        return {"correct": k, "interval95": binomial_interval(k, n), "interval_by": "exact binomial"}


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


def check_labels(segmenter: Segmenter, labels: list[str]) -> None:
    """A ValueError where a segmenter that knows its labels was trained to read others."""
    known = getattr(segmenter, "labels", None)
    if known is not None and known != labels:
        raise ValueError(
            f"{segmenter.weights}: the segmenter was trained to read {known}, the masks have {labels}. Train one with "
            "configs/train_segmenter.json, and set segmenter_weights and segmenter_labels."
        )


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
        only: one of the labels, whose Dice alone counts; None for the mean over all.

    Raises:
        ValueError: for another ``of`` or ``only``, or labels other than those that the segmenter was trained to read.

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

    def __init__(
        self,
        segmenter: Segmenter,
        labels: list[str] | dict[str, int],
        of: str = "generated",
        only: str | None = None,
    ) -> None:
        super().__init__()
        self.segmenter, self.labels, self.of, self.only = segmenter, list(labels), side_of(of), only
        if only is not None and only not in self.labels:
            raise ValueError(f"only must be one of {self.labels}, got {only!r}.")
        check_labels(segmenter, self.labels)

    @property
    def label(self) -> str:
        """``mask_dice`` or ``mask_dice_real``; of one label such as ``dice[PZ]``."""
        if self.only is not None:
            return f"dice[{self.only}]"
        return "mask_dice" if self.of == "generated" else "mask_dice_real"

    def _values(self, y_pred: Tensor, y: Tensor | None) -> Tensor:
        if y is None:
            raise ValueError("Mask consistency needs the masks.")
        device = self.segmenter.device
        dice = mask_dice(y_pred.to(device), y.to(device), self.segmenter.network, self.segmenter.divisor)
        return dice if self.only is None else dice[:, [self.labels.index(self.only)]]

    def report(self) -> dict[str, Any]:
        """What stands beside the mean and its interval: the Dice of each label, and the segmenter."""
        means = zip([self.only] if self.only is not None else self.labels, self.rows().nanmean(0))
        return {"per_label": {name: float(value) for name, value in means}, "segmenter": self.segmenter.describe()}
