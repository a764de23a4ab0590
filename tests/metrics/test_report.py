from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.metrics import DiceMetric, MSEMetric

from common.metrics.grain import Grain
from common.metrics.mmd import MaximumMeanDiscrepancy
from common.metrics.report import MetricsReport, metric_handlers
from common.metrics.sets import bootstrap_interval


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
