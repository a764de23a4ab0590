from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.metrics import ConfusionMatrixMetric, DiceMetric, MeanIoU
from sklearn.metrics import accuracy_score, jaccard_score, precision_score, recall_score
from torch.nn import functional as F

from common.evaluation.report import MetricsReport
from common.metrics.intervals import binomial_interval
from common.metrics.task import CaseConfusion, ClassificationScores

CLASSES = ("glioma", "meningioma", "none", "pituitary")


def answers(n: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores of four classes and the true class, right in about two of three cases."""
    generator = torch.Generator().manual_seed(0)
    true = torch.randint(4, (n,), generator=generator)
    return torch.randn(n, 4, generator=generator) + 2 * F.one_hot(true, 4), true


def masks(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    y = (torch.rand(3, 2, 6, 7, generator=generator) > 0.6).float()
    return torch.where(torch.rand(y.shape, generator=generator) > 0.8, 1 - y, y), y


def test_accuracy_recall_precision_agree_with_sklearn():
    scores, true = answers()
    metric = ClassificationScores(CLASSES)
    metric(scores[:50], F.one_hot(true[:50], 4))
    metric(list(scores[50:]), list(true[50:, None]))
    found, report = scores.argmax(1), metric.report()
    assert report["value"] == float(metric.aggregate()) == pytest.approx(accuracy_score(true, found))
    assert report["interval95"] == binomial_interval(int((found == true).sum()), 60)
    assert report["mean_recall"] == pytest.approx(recall_score(true, found, average="macro"))
    assert report["mean_precision"] == pytest.approx(precision_score(true, found, average="macro"))
    recall = recall_score(true, found, average=None)
    precision = precision_score(true, found, average=None)
    for k, name in enumerate(CLASSES):
        entry = report["per_class"][name]
        assert entry["recall"]["value"] == pytest.approx(recall[k])
        assert entry["precision"]["value"] == pytest.approx(precision[k])
        right, cases = int(((found == k) & (true == k)).sum()), int((true == k).sum())
        assert entry["recall"]["interval95"] == binomial_interval(right, cases)
        assert entry["precision"]["interval95"] == binomial_interval(right, int((found == k).sum()))


def test_monais_accuracy_of_several_classes_is_another_number():
    """Always wrong, four classes: half of all "this class or not" are still right."""
    true = F.one_hot(torch.tensor([0, 1, 2, 3]), 4)
    wrong = true.roll(1, dims=1)
    monai = ConfusionMatrixMetric(metric_name="accuracy")
    monai(wrong, true)
    ours = ClassificationScores(CLASSES)
    ours(wrong, true)
    assert float(monai.aggregate()[0]) == 0.5
    assert ours.report()["value"] == 0


def test_classes_that_never_occur_have_no_share(tmp_path):
    metric = ClassificationScores(("a", "b", "c"))
    metric(torch.eye(3)[[0, 0, 1]], torch.tensor([0, 0, 0]))
    report = MetricsReport({"classifier": metric}, tmp_path).collect()["metrics"]["accuracy"]
    assert report["value"] == pytest.approx(2 / 3)
    assert report["n"] == 3
    assert report["per_class"]["b"]["recall"] == {"value": None, "interval95": None, "n": 0}
    assert report["per_class"]["b"]["precision"]["value"] == 0
    assert report["per_class"]["c"]["precision"]["n"] == 0
    assert report["mean_recall"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(("score", "by_sklearn"), [("sensitivity", recall_score), ("precision", precision_score)])
def test_voxel_scores_agree_with_sklearn_and_monai(score, by_sklearn, tmp_path):
    x, y = masks()
    metric, monai = CaseConfusion(score), ConfusionMatrixMetric(metric_name=score, compute_sample=True)
    metric(list(x), list(y))
    monai(x, y)
    expected = [[by_sklearn(y[i, c].flatten(), x[i, c].flatten()) for c in range(2)] for i in range(3)]
    np.testing.assert_allclose(metric.per_label(), expected, rtol=1e-9)
    assert float(metric.aggregate()) == pytest.approx(float(monai.aggregate()[0]), rel=1e-6)
    entry = MetricsReport({"x": metric}, tmp_path).collect()["metrics"][score]
    assert entry["value"] == pytest.approx(np.mean(expected))
    assert entry["per_label"] == pytest.approx(np.mean(expected, axis=0).tolist())
    assert entry["n"] == 3


def test_a_label_that_is_not_there_is_left_out():
    x, y = masks()
    y[0, 1] = 0
    metric = CaseConfusion("sensitivity")
    metric(x, y)
    assert math.isnan(float(metric.per_label()[0, 1]))
    assert float(metric.per_case()[0]) == float(metric.per_label()[0, 0])


def test_dice_and_iou_of_monai_stand_in_a_report(tmp_path):
    x, y = masks()
    metrics = {"dice": DiceMetric(include_background=True), "iou": MeanIoU(include_background=True)}
    for metric in metrics.values():
        metric(x, y)
    found = MetricsReport(metrics, tmp_path).collect()["metrics"]
    iou = np.array([[jaccard_score(y[i, c].flatten(), x[i, c].flatten()) for c in range(2)] for i in range(3)])
    assert found["iou"]["value"] == pytest.approx(iou.mean(), rel=1e-6)
    assert found["dice"]["value"] == pytest.approx((2 * iou / (1 + iou)).mean(), rel=1e-6)
    assert found["dice"]["interval95"][0] < found["dice"]["value"] < found["dice"]["interval95"][1]


def test_bad_input():
    metric = ClassificationScores(("a", "b"))
    with pytest.raises(ValueError, match="Scores"):
        metric(torch.rand(3, 4), torch.tensor([0, 1, 0]))
    with pytest.raises(ValueError, match="Scores"):
        metric(torch.rand(3, 2), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="0 to 1"):
        metric(torch.rand(3, 2), torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match="NaN"):
        metric(torch.full((1, 2), math.nan), torch.tensor([0]))
    with pytest.raises(ValueError, match="two classes"):
        ClassificationScores(["a"])
