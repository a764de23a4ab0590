"""Reports and tables of methods: values, intervals, derived columns by hand, what cannot be computed."""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.metrics import DiceMetric, MSEMetric
from torch import nn

from common.evaluation.report import MethodTable, MetricsReport, method_handlers, method_metrics, metric_handlers
from common.evaluation.results import document, markdown_table, share_won_back
from common.metrics.consistency import ClassAccuracy
from common.metrics.fidelity import PeakSignalToNoise
from common.metrics.intervals import binomial_interval, bootstrap_interval
from common.metrics.mmd import KernelDistanceMetric, MaximumMeanDiscrepancy
from common.metrics.neighbours import CoverageMetric
from common.metrics.sharpness import Acutance, Grain


def run(folder, metrics, **kwargs):
    """An engine of four cases, each generated volume twice the real one, wired as a config does it."""

    def step(engine, number):
        real = torch.randn(1, 6, 6, 6, generator=torch.Generator().manual_seed(number))
        return [{"pred": 2 * real, "label": real, "image": (real > 0).float()}]

    engine = Engine(step)
    for name, handler in metric_handlers(metrics, {"dice": ["image", "image"]} if "dice" in metrics else None).items():
        handler.attach(engine, name)
    MetricsReport(metrics, folder, **kwargs).attach(engine)
    engine.run([0, 1, 2, 3])
    return json.loads((folder / "metrics.json").read_text())


def test_values_intervals_and_ratios(tmp_path):
    metrics = {
        "mse": MSEMetric(),
        "grain": Grain(),
        "grain_real": Grain("real"),
        "mmd": MaximumMeanDiscrepancy("linear"),
    }
    out = tmp_path / "new" / "eval"
    result = run(out, metrics, ratios={"grain_ratio": ("grain", "grain_real")}, context={"steps": 10}, seed=3)
    real = [torch.randn(1, 6, 6, 6, generator=torch.Generator().manual_seed(k)) for k in range(4)]
    entry = result["metrics"]["mse"]
    assert entry["value"] == pytest.approx(float(torch.stack(real).square().mean()), rel=1e-5)
    assert entry["n"] == 4
    assert entry["interval95"][0] < entry["value"] < entry["interval95"][1]
    assert result["metrics"]["grain_ratio"]["value"] == pytest.approx(4)
    assert result["metrics"]["grain_ratio"]["interval95"] == pytest.approx([4, 4])
    assert result["metrics"]["mmd[linear]"]["n"] == {"generated": 4, "real": 4}
    assert result["context"] == {"steps": 10}
    assert result["bootstrap"]["seed"] == 3
    assert result["versions"]["torch"] == torch.__version__
    table = (out / "metrics.md").read_text()
    assert "| grain_ratio | 4 | 4 to 4 | 4 |" in table
    assert sorted(p.name for p in out.iterdir()) == ["metrics.json", "metrics.md"]


def test_dice_of_monai_and_cases_without_the_label(tmp_path):
    metric = DiceMetric(include_background=True)
    result = run(tmp_path, {"dice": metric})
    assert result["metrics"]["dice"]["value"] == 1
    metric.reset()
    metric(torch.zeros(1, 1, 4, 4, 4), torch.zeros(1, 1, 4, 4, 4))
    entry = MetricsReport({"dice": metric}, tmp_path).collect()["metrics"]["dice"]
    assert entry == {"value": None, "interval95": None, "n": 0, "per_case": [None]}


def test_absolute_paths_lose_their_folders():
    context = {"weights": Path("/home/jane/model.pt"), "command": ["--out=/data/jane/out", "a/b", "/x/a.pt,/y/b.pt"]}
    found = document({"metrics": {}}, context, seed=0, started=0.0)["context"]
    assert found == {"weights": "model.pt", "command": ["--out=out", "a/b", "a.pt,b.pt"]}


def test_unknown_names_are_refused(tmp_path):
    with pytest.raises(ValueError, match="ratios name"):
        MetricsReport({"mse": MSEMetric()}, tmp_path, ratios={"r": ("mse", "mae")})
    with pytest.raises(ValueError, match="inputs name"):
        metric_handlers({"mse": MSEMetric()}, {"mae": ["pred", "label"]})


class _Mean:
    """A feature network's stand-in: mean and spread."""

    label = "mean"

    def __call__(self, images):
        return torch.stack([images.flatten(1).mean(1), images.flatten(1).std(1)], dim=1)

    def describe(self):
        return {"name": "mean"}


def test_a_metric_for_want_of_cases_does_not_end_the_run(tmp_path):
    """Coverage needs six cases; the four of this run still give all other values."""
    result = run(tmp_path, {"mse": MSEMetric(), "coverage": CoverageMetric(_Mean())})
    assert result["metrics"]["mse"]["value"] > 0
    assert result["metrics"]["coverage[mean]"]["value"] is None
    assert "At least 6 real" in result["metrics"]["coverage[mean]"]["warning"]
    assert "| coverage[mean] | not a number |" in (tmp_path / "metrics.md").read_text()


def test_memory_of_volumes_does_not_pile_up():
    """Small tensors that are kept must not pin the memory of the volumes before them (glibc's heap)."""
    status = Path("/proc/self/status")
    if not status.exists() or not hasattr(ctypes.CDLL(None), "malloc_trim"):
        pytest.skip("resident memory is read on Linux with glibc")

    def resident():
        return int(status.read_text().split("VmRSS:")[1].split()[0]) / 1024

    def seen(handler, count):
        for number in range(count):
            volume = torch.full((1, 1, 64, 128, 128), number / count)
            handler.update([volume, volume])

    handler = metric_handlers({"mean": KernelDistanceMetric(_Mean())})["mean"]
    seen(handler, 5)
    before = resident()
    seen(handler, 60)
    assert resident() - before < 60  # MiB; each volume has 4


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


def test_methods_are_compared_with_one_of_them_case_by_case(tmp_path):
    clean = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    metrics = method_metrics(["half", "third", "clean"], {"mse": MSEMetric, "psnr": PeakSignalToNoise}, "clean")
    for name, factor in (("half", 1 / 2), ("third", 1 / 3)):
        for metric in metrics[name].values():
            metric(factor * clean, clean)
    table = MethodTable(metrics, tmp_path, {"half": "Half"}, "clean", compared_with="half")
    content = table.collect()
    power = (clean**2).mean((1, 2, 3)).double().numpy()
    found = content["methods"]["third"]["differences"]["mse"]
    assert found["value"] == pytest.approx(power.mean() * (4 / 9 - 1 / 4))
    assert found["interval95"] == pytest.approx(bootstrap_interval(power * (4 / 9 - 1 / 4)), rel=1e-5)
    psnr = content["methods"]["third"]["differences"]["psnr"]
    assert psnr["interval95"] == pytest.approx([10 * math.log10(9 / 16)] * 2, rel=1e-5), "the same in every case"
    assert content["comparisons"] == {"with": "Half", "number": 2}
    assert [name for name, row in content["methods"].items() if "differences" in row] == ["third"]
    text = markdown_table(content)
    assert "Each value minus that of Half, of the same cases" in text
    assert text.splitlines()[-1].startswith("| third | ")
    with pytest.raises(ValueError, match="compared_with name"):
        MethodTable(metrics, tmp_path, reference="clean", compared_with="quarter")


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
    assert markdown_table({"methods": {"a": entry}}).splitlines()[2] == "| t | – | 2 (1 to 3) |"


@pytest.mark.parametrize(("output", "number", "runs"), [("samples", 2, False), ("mean", 2, True), ("samples", 1, True)])
def test_several_images_a_case_are_refused_before_they_are_drawn(tmp_path, output, number, runs):
    drawn = []
    engine = Engine(lambda engine, batch: drawn.append(batch))
    engine.inferer = SimpleNamespace(sampler=SimpleNamespace(output=output, num_samples=number))
    MetricsReport({}, tmp_path).attach(engine)
    with contextlib.nullcontext() if runs else pytest.raises(ValueError, match="num_samples 2: this evaluation"):
        engine.run([0])
    assert drawn == [0] * runs


def test_cases_of_one_group_are_drawn_together_and_values_a_case_are_kept(tmp_path):
    values = [1.0, 1.2, 5.0, 5.1, 9.0, 9.3]
    found = {}
    for name, groups in (("cases", "abcdef"), ("groups", "aabbcc")):
        metric = MSEMetric()
        report = MetricsReport({"mse": metric}, tmp_path / name, ratios={"itself": ["mse", "mse"]})
        engine = Engine(lambda engine, batch: None)
        report.attach(engine)
        for value in values:
            metric(torch.tensor([[[value**0.5]]]), torch.zeros(1, 1, 1))
        engine.run([[{"group": group}] for group in groups])
        found[name] = json.loads((tmp_path / name / "metrics.json").read_text())
    by_case, by_group = (found[name]["metrics"]["mse"] for name in ("cases", "groups"))
    assert by_case["per_case"] == pytest.approx(values)
    assert np.ptp(by_group["interval95"]) > 1.2 * np.ptp(by_case["interval95"])
    assert by_group["interval95"] == bootstrap_interval(by_group["per_case"], clusters=list("aabbcc"))
    assert found["groups"]["bootstrap"]["over"] == "3 groups of cases"
    assert (found["groups"]["clusters"], "clusters" in found["cases"]) == ([0, 0, 1, 1, 2, 2], False)
