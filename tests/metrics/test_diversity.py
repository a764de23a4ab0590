from __future__ import annotations

import numpy as np
import pytest
import torch

from common.metrics.diversity import SetMSSSIM, random_pairs
from common.metrics.ssim import ms_ssim, scales_for
from tests.metrics.test_ssim import pair


def test_set_metric_is_the_mean_over_cropped_pairs():
    x, _ = pair(30, 24, 26)
    y, _ = pair(25, 28, 26, seed=1)
    metric = SetMSSSIM("real")
    metric([x[0], x[1], x[0]], [x[0], x[1], y[0]])
    scales = scales_for((25, 24, 26))
    cropped = [x[0][None, :, 2:27], x[1][None, :, 2:27], y[:1, :, :, 2:26]]
    expected = [float(ms_ssim(cropped[i] + 1, cropped[j] + 1, scales=scales)) for i, j in ((0, 2), (1, 2))]
    expected.append(float(ms_ssim(x[:1] + 1, x[1:] + 1, scales=scales)))
    report = metric.report()
    assert report["value"] == pytest.approx(np.mean(expected))
    assert report["pairs"] == report["n"] == 3
    assert report["scales"]["window"] == 11
    assert report["interval95"][0] <= report["value"] <= report["interval95"][1]


def test_pairs_are_seeded_different_and_distinct():
    pairs = random_pairs(30, 50, seed=3)
    assert pairs == random_pairs(30, 50, seed=3) != random_pairs(30, 50, seed=4)
    assert len(set(pairs)) == 50
    assert all(i < j for i, j in pairs)
    assert len(random_pairs(4, 50)) == 6


def test_set_metric_does_not_hang_on_the_order_of_the_volumes():
    volumes = torch.rand(8, 1, 9, 9, 9, generator=torch.Generator().manual_seed(0))
    reports = []
    for order in (range(8), (3, 1, 7, 0, 2, 6, 4, 5)):
        metric = SetMSSSIM("generated", num_pairs=6)
        metric(volumes[list(order)])
        reports.append(metric.report())
    assert reports[0]["value"] == pytest.approx(reports[1]["value"])
    assert reports[0]["interval95"] == pytest.approx(reports[1]["interval95"])


def test_bad_input():
    x, y = pair(12, 12, 12)
    mixed = SetMSSSIM("generated")
    mixed([x[0], y[0].repeat(3, 1, 1, 1)])
    for message, call in (
        ("one number of channels", lambda: mixed.report()),
        ("at least two images, got 1", lambda: random_pairs(1, 5)),
        ("of must be", lambda: SetMSSSIM("fake")),
    ):
        with pytest.raises(ValueError, match=message):
            call()
