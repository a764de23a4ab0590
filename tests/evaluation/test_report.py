from __future__ import annotations

import base64
import ctypes
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.metrics import DiceMetric, MSEMetric
from PIL import Image

from common.evaluation.folders import ImageFolder
from common.evaluation.page import page, picture, tables
from common.evaluation.report import MetricsReport, metric_handlers
from common.evaluation.table import METRICS, known
from common.metrics.coverage import CoverageMetric
from common.metrics.fid import KernelDistanceMetric
from common.metrics.grain import Grain
from common.metrics.intervals import bootstrap_interval
from common.metrics.mmd import MaximumMeanDiscrepancy
from tests.fixtures import write_nifti


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
    assert entry == {"value": None, "interval95": None, "n": 0}


def test_bootstrap_covers_the_mean_and_is_seeded():
    values = np.random.default_rng(0).normal(3, 1, 200)
    low, high = bootstrap_interval(values, seed=1)
    assert bootstrap_interval(values, seed=1) == [low, high] != bootstrap_interval(values, seed=2)
    assert high - low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(200), rel=0.15)
    assert bootstrap_interval(values[:1]) is None


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


def _content():
    entry = {"value": 0.5, "interval95": [0.25, 0.75], "n": 3, "metric": "fid"}
    return {
        "metrics": {
            "fid[a]": {**entry, "network": {"name": "a"}},
            "fid[b]": {**entry, "network": {"name": "b"}},
            "mmd[rbf]": {**entry, "metric": "mmd_rbf"},
        },
        "notices": ["files <1> & 2"],
        "context": {
            **{side: {"folder": f"{side}<b>", "n": 3, "sha256": "0"} for side in ("real", "fake")},
            "reading": {"scaling": "percentiles"},
            "networks": [{"name": "a", "sha256": "12"}],
            "paired": False,
        },
        "seconds": 1,
        "versions": {"torch": "2"},
    }


def _folder(path, count=3):
    for number in range(count):
        array = np.random.default_rng(number).normal(size=(10, 12, 8)).astype(np.float32)
        array[:5] += 3  # bright on the left of the patient: the right half of an axial slice
        write_nifti(path / f"v{number}.nii.gz", array, np.diag([1.0, 1.0, 2.0, 1.0]))
    return ImageFolder(path)


def test_the_page_is_complete_in_itself(tmp_path):
    real, fake = _folder(tmp_path / "real"), _folder(tmp_path / "fake")
    text = page(_content(), real, fake)
    addresses = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert len(addresses) == 6
    for address in addresses:
        assert address.startswith("data:image/png;base64,")
        sheet = Image.open(io.BytesIO(base64.b64decode(address.split(",")[1])))
        assert np.asarray(sheet).std() > 10
    assert "http" not in text
    assert "files &lt;1&gt; &amp; 2" in text
    assert "fake&lt;b&gt;" in text
    assert METRICS["mmd_rbf"].definition in text
    assert METRICS["mse"].definition not in text


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


def test_values_of_two_networks_never_share_a_table():
    titles = {title: [row[0] for row in rows] for title, rows in tables(_content())}
    assert titles == {
        "In the features of a": ["fid[a]"],
        "In the features of b": ["fid[b]"],
        "On pixels": ["mmd[rbf]"],
    }


def test_slices_are_shown_upright_with_the_right_on_the_left(tmp_path):
    folder = _folder(tmp_path, 1)
    data = base64.b64decode(picture(folder[0], folder.spacings[0], False).split(",")[1])
    sheet = np.asarray(Image.open(io.BytesIO(data))).astype(float)
    scale = 112 / 16  # the tallest panel is 8 slices of 2 mm
    axial = sheet[:, : round(10 * scale)]
    inside = axial[axial.shape[0] // 2 - 20 : axial.shape[0] // 2 + 20]
    assert inside[:, -20:].mean() > inside[:, :20].mean() + 50
    assert sheet.shape[1] == pytest.approx((10 + 10 + 12) * scale + 8, abs=3)


def test_names_of_metrics():
    assert known("kid, fid") == ["fid", "kid"]
    with pytest.raises(ValueError, match="No metric 'fidd'"):
        known("fidd")
    for name, entry in METRICS.items():
        assert callable(entry.code()), name
