"""Tables of methods: derived columns by hand, exact intervals, what cannot be computed."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from common.evaluation.method_table import MethodTable, markdown, method_handlers, method_metrics, share_won_back
from common.evaluation.paired_observer import PairedObserverMetric
from common.features.features import FeatureNetwork
from common.metrics.accuracy import ClassAccuracy
from common.metrics.acutance import Acutance
from common.metrics.fidelity import PeakSignalToNoise
from common.metrics.intervals import binomial_interval


class Brighter(nn.Module):
    """Class 1 for images that are bright on average, class 0 for the others."""

    def forward(self, images):
        mean = images.flatten(1).mean(1)
        return torch.stack([-mean, mean], dim=1)


def classifier():
    return ClassAccuracy(Brighter(), "toy")


def images_of(right, labels):
    """Constant images that the toy classifier gets right where ``right`` says so."""
    signs = torch.tensor([1.0 if bool(ok) == bool(label) else -1.0 for ok, label in zip(right, labels)])
    return signs.reshape(-1, 1, 1, 1).expand(-1, 1, 4, 4) * 0.5


def filled(tmp_path):
    labels = torch.tensor([0, 1] * 5)
    right = {
        "clean": [1] * 9 + [0],
        "noisy": [1] * 4 + [0] * 6,
        "restored": [1] * 7 + [0] * 3,
        "worse": [1] * 2 + [0] * 8,
    }
    metrics = method_metrics(right, {"accuracy": classifier}, reference="clean", alone=["accuracy"])
    for method, answers in right.items():
        metrics[method]["accuracy"](images_of(answers, labels), labels)
    return MethodTable(metrics, tmp_path, reference="clean", won_back={"accuracy": "noisy"})


def test_accuracy_has_the_exact_interval_and_the_share_won_back(tmp_path):
    methods = filled(tmp_path).collect()["methods"]
    entry = methods["restored"]["metrics"]["accuracy[toy]"]
    assert (entry["value"], entry["correct"], entry["n"]) == (0.7, 7, 10)
    assert entry["interval95"] == pytest.approx(binomial_interval(7, 10))
    won = {name: row["metrics"].get("accuracy won back") for name, row in methods.items()}
    assert won["restored"]["value"] == pytest.approx((0.7 - 0.4) / (0.9 - 0.4))
    assert won["worse"]["value"] == pytest.approx(-0.4)
    assert won["clean"] is None
    assert won["noisy"] is None


def test_where_nothing_was_lost_nothing_can_be_won_back():
    assert math.isnan(share_won_back(np.array([[1, 1, 1], [0, 1, 1]])))
    assert share_won_back(np.array([[1, 0, 1], [1, 1, 1]])) == 1


def test_ratios_are_to_the_clean_images_and_the_files_are_written(tmp_path):
    clean = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    columns = {"acutance": lambda: Acutance(1.0), "psnr": PeakSignalToNoise}
    metrics = method_metrics(["half", "clean"], columns, "clean", ["acutance"])
    assert list(metrics["clean"]) == ["acutance"]
    handlers = method_handlers(metrics, {"psnr": "other"})
    assert list(handlers) == ["half/acutance", "half/psnr", "clean/acutance"]
    output = [{"half": image / 2, "clean": image, "label": image, "other": image / 2} for image in clean]
    for handler in handlers.values():
        handler.update(handler._output_transform(output))
    table = MethodTable(metrics, tmp_path, {"half": "Half"}, "clean", {"acutance": "ratio"})
    table(SimpleNamespace())
    row = table.collect()["methods"]["half"]["metrics"]
    assert row["ratio"]["value"] == pytest.approx(0.5), "the gradient's square over the contrast"
    assert row["psnr"]["value"] is None, "equal images: the other key was taken"
    lines = (tmp_path / "metrics.md").read_text().splitlines()
    assert lines[0] == "| method | acutance[generated] | psnr | ratio |"
    assert lines[2].startswith("| Half | ")
    assert lines[3].endswith("| – | – |")
    assert (tmp_path / "metrics.json").is_file()


def test_a_derived_column_without_its_column_is_refused(tmp_path):
    metrics = method_metrics(["a", "clean"], {"psnr": PeakSignalToNoise}, "clean", [])
    with pytest.raises(ValueError, match="There is no psnr of 'clean'"):
        MethodTable(metrics, tmp_path, reference="clean", ratios={"psnr": "ratio"})
    with pytest.raises(ValueError, match="There is no accuracy of 'a'"):
        MethodTable(metrics, tmp_path, reference="clean", won_back={"accuracy": "a"})


def test_a_classifier_needs_one_class_an_image():
    with pytest.raises(ValueError, match="one class index an image"):
        classifier()(torch.zeros(2, 1, 4, 4), torch.zeros(2, 3))


def test_a_missing_value_is_a_dash():
    entry = {"title": "t", "metrics": {"m": {"value": None}, "k": {"value": 2.0, "interval95": [1.0, 3.0]}}}
    assert markdown({"methods": {"a": entry}}).splitlines()[2] == "| t | – | 2 (1 to 3) |"


def mean_and_deviation():
    class Moments(nn.Module):
        def forward(self, images):
            flat = images.flatten(1)
            return torch.stack([flat.mean(1), flat.std(1), flat[:, 0]], dim=1)

    return Moments()


@pytest.mark.parametrize(("change", "low", "high"), [(0.0, 0.5, 0.5), (0.8, 0.9, 1.0)])
def test_paired_observer_is_undecided_about_equal_images_and_sees_a_change(change, low, high):
    real = torch.rand(30, 1, 6, 6, generator=torch.Generator().manual_seed(0)) - 0.9
    metric = PairedObserverMetric(FeatureNetwork(f"{__name__}:mean_and_deviation"))
    metric((real + change).clamp(-1, 1), real)
    result = metric.report()
    assert result["groups"] == 30
    assert low <= result["value"] <= high
