"""
Downstream tasks: MONAI's Dice and IoU as they are, and what its confusion matrix needs to stand in a report.

``DiceMetric(include_background=True)`` and ``MeanIoU(include_background=True)`` have one value a case and label; put
into ``MetricsReport`` they give the mean over cases with its bootstrap interval, cases without the label left out.
``ConfusionMatrixMetric`` keeps four counts a case and label, whose mean says nothing: use ``CaseConfusion`` for
segmentations and ``ClassificationScores`` for one class a case.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from monai.metrics import (
    ConfusionMatrixMetric,
    CumulativeIterationMetric,
    compute_confusion_matrix_metric,
    get_confusion_matrix,
)
from torch import Tensor
from torch.nn import functional as F

from .intervals import binomial_interval


class CaseConfusion(ConfusionMatrixMetric):
    """
    MONAI's ``ConfusionMatrixMetric`` with one value a case: over its voxels, then the mean over its labels.

    Called with masks, (N, L, *spatial) of 0 and 1. A label that gives 0 / 0 in a case, such as the recall of a label
    that is not there, is NaN and left out; scikit-learn would count it as 0.

    Args:
        score: as MONAI names them: "sensitivity" (recall), "precision", "specificity", "accuracy", "f1 score", ...
        include_background: whether the first channel counts; False where it is the background.
    """

    def __init__(self, score: str = "sensitivity", include_background: bool = True) -> None:
        super().__init__(include_background=include_background, metric_name=score)
        self.score = score

    @property
    def label(self) -> str:
        """The name of the score."""
        return self.score

    def per_label(self) -> Tensor:
        """Score of each case and label, (n, L), float64."""
        return compute_confusion_matrix_metric(self.score, self.get_buffer().double())

    def per_case(self) -> Tensor:
        """Mean over the labels that a case has, (n,), float64."""
        return self.per_label().nanmean(1)

    def aggregate(self) -> Tensor:  # type: ignore[override]
        """Returns the mean over cases."""
        return self.per_case().nanmean()

    def report(self) -> dict[str, Any]:
        """The mean over cases of each label."""
        return {"per_label": self.per_label().nanmean(0).tolist()}


class ClassificationScores(CumulativeIterationMetric):
    """
    Accuracy of one class a case, with recall and precision of each class, all with exact intervals.

    MONAI's ``ConfusionMatrixMetric("accuracy")`` is the mean over classes of "this class or not", which counts the
    agreement on classes that a case is not; with four classes, a classifier that is always wrong still has 0.5.
    Accuracy here is the share of cases with the right class. Recall and precision are MONAI's.

    Called with scores or one-hot classes, (N, K), and with the true class, one-hot (N, K) or its index (N, 1) or (N,).

    Args:
        classes: their names, in the order of the scores; at least two.

    Raises:
        ValueError: for fewer than two classes.
    """

    label = "accuracy"

    def __init__(self, classes: Sequence[str]) -> None:
        super().__init__()
        self.classes = [str(name) for name in classes]
        if len(self.classes) < 2:
            raise ValueError(f"At least two classes were expected, got {self.classes}.")

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **kwargs: Any) -> Tensor:
        number = len(self.classes)
        if y is None or y_pred.ndim != 2 or y_pred.shape[1] != number or len(y) != len(y_pred):
            shape = None if y is None else tuple(y.shape)
            raise ValueError(
                f"Scores (N, {number}) and N classes were expected, got {tuple(y_pred.shape)} and {shape}."
            )
        if not bool(torch.isfinite(y_pred).all()):
            raise ValueError("Scores hold NaN or infinity.")
        true = y.argmax(1) if y.ndim == 2 and y.shape[1] == number else y.reshape(len(y_pred), -1)[:, 0]
        if not bool(((true >= 0) & (true < number) & (true == true.round())).all()):
            raise ValueError(f"Classes must be 0 to {number - 1}, got {sorted(set(true.tolist()))}.")
        return torch.stack([y_pred.argmax(1), true.to(y_pred.device).long()], dim=1)

    def aggregate(self) -> Tensor:  # type: ignore[override]
        """Returns the accuracy, float64."""
        found, true = self.get_buffer().T
        return (found == true).double().mean()

    def report(self) -> dict[str, Any]:
        """Accuracy, its interval, number of cases, and recall and precision a class and as means over the classes."""
        found, true = self.get_buffer().T
        found_hot, true_hot = (F.one_hot(v, len(self.classes)).double() for v in (found, true))
        counts = get_confusion_matrix(found_hot, true_hot).sum(0)
        recall = compute_confusion_matrix_metric("sensitivity", counts)
        precision = compute_confusion_matrix_metric("precision", counts)
        correct = int((found == true).sum())
        return {
            "value": correct / len(true),
            "interval95": binomial_interval(correct, len(true)),
            "interval": "exact binomial",
            "n": len(true),
            "mean_recall": float(recall.nanmean()),
            "mean_precision": float(precision.nanmean()),
            "per_class": {
                name: {
                    "recall": _share(float(recall[k]), int(counts[k, 0]), int((true == k).sum())),
                    "precision": _share(float(precision[k]), int(counts[k, 0]), int((found == k).sum())),
                }
                for k, name in enumerate(self.classes)
            },
        }


def _share(value: float, k: int, n: int) -> dict[str, Any]:
    """A share with its exact interval; null where there is no case to take a share of."""
    if n == 0:
        return {"value": None, "interval95": None, "n": 0}
    return {"value": None if math.isnan(value) else value, "interval95": binomial_interval(k, n), "n": n}
