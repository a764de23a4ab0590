from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.metrics import MAEMetric, MSEMetric, PSNRMetric, SSIMMetric
from skimage import io
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity

from common.evaluation.report import MetricsReport
from common.metrics.fidelity import (
    BackgroundDeviation,
    MeanAbsoluteError,
    MeanSquaredError,
    PeakSignalToNoise,
    mae,
    mse,
    psnr,
)
from common.metrics.ssim import StructuralSimilarity, scales_for, ssim
from tests.fixtures import real_data

SKIMAGE_SSIM = {"data_range": 2.0, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}


def pair(*size: int, channels: int = 1, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x, noise = (torch.rand(2, channels, *size, generator=generator) * 2 - 1 for _ in range(2))
    return x, (0.8 * x + 0.2 * noise).clamp(-1, 1)


def real_pair() -> tuple[torch.Tensor, torch.Tensor]:
    """Two chest X-rays, and both with a little noise."""
    files = sorted((real_data("chest_xray") / "train" / "normal").glob("*.jpeg"))[:2]
    x = torch.stack([torch.from_numpy(io.imread(f))[None].float() / 127.5 - 1 for f in files])
    return x, (x + 0.05 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))).clamp(-1, 1)


@pytest.mark.parametrize("images", [lambda: pair(20, 23), lambda: pair(14, 13, 16), real_pair])
def test_agrees_with_scikit_image(images):
    x, y = images()
    for case in range(2):
        a, b = x[case, 0].double().numpy(), y[case, 0].double().numpy()
        assert float(mse(x, y)[case]) == pytest.approx(mean_squared_error(a, b), rel=1e-9)
        assert float(psnr(x, y)[case]) == pytest.approx(peak_signal_noise_ratio(a, b, data_range=2.0), rel=1e-9)
        assert float(ssim(x, y)[case]) == pytest.approx(structural_similarity(a, b, **SKIMAGE_SSIM), rel=1e-9)


@pytest.mark.parametrize("images", [lambda: pair(20, 23, channels=3), lambda: pair(14, 13, 16), real_pair])
def test_agrees_with_monai(images):
    x, y = images()
    np.testing.assert_allclose(mse(x, y), MSEMetric()(x, y)[:, 0], rtol=1e-4)
    np.testing.assert_allclose(mae(x, y), MAEMetric()(x, y)[:, 0], rtol=1e-4)
    np.testing.assert_allclose(psnr(x, y), PSNRMetric(max_val=2)(x, y)[:, 0], rtol=1e-4)
    np.testing.assert_allclose(ssim(x, y), SSIMMetric(x.ndim - 2, data_range=2.0)(x, y)[:, 0], rtol=1e-4)


def test_ssim_of_several_channels_is_their_mean():
    x, y = pair(18, 19, channels=3)
    found = structural_similarity(x[0].double().numpy(), y[0].double().numpy(), channel_axis=0, **SKIMAGE_SSIM)
    assert float(ssim(x, y)[0]) == pytest.approx(found, rel=1e-9)


def test_ssim_of_an_image_smaller_than_its_window_where_monais_fails():
    x, y = pair(8, 30)
    assert scales_for(x.shape[2:], 1).window == 7
    small = {**SKIMAGE_SSIM, "sigma": 1.5 * 7 / 11, "truncate": 3 / (1.5 * 7 / 11)}
    expected = structural_similarity(x[0, 0].double().numpy(), y[0, 0].double().numpy(), **small)
    assert float(ssim(x, y)[0]) == pytest.approx(expected, rel=1e-9)
    with pytest.raises(RuntimeError):
        SSIMMetric(2, data_range=2.0)(x, y)


def test_identical_and_opposite_images():
    x, _ = pair(16, 16)
    assert mse(x, x).tolist() == mae(x, x).tolist() == [0, 0]
    assert psnr(x, x).tolist() == [math.inf, math.inf]
    assert ssim(x, x).tolist() == pytest.approx([1, 1])
    assert float(ssim(0.5 + 0.3 * x, 0.5 - 0.3 * x).max()) < -0.3


def test_constant_images():
    a, b = torch.full((1, 1, 12, 12), 0.5), torch.full((1, 1, 12, 12), -0.2)
    c1 = 0.02**2
    assert float(ssim(a, b)) == pytest.approx((2 * 0.5 * -0.2 + c1) / (0.25 + 0.04 + c1))
    assert float(ssim(a, a)) == pytest.approx(1)
    assert float(psnr(a, b)) == pytest.approx(20 * math.log10(2 / 0.7))


def test_a_known_shift_of_intensity():
    x = torch.zeros(1, 2, 5, 6, 7)
    assert float(mse(x, x + 0.1)) == pytest.approx(0.01)
    assert float(mae(x, x - 0.1)) == pytest.approx(0.1)
    assert float(psnr(x, x + 0.1)) == pytest.approx(20 * math.log10(20))
    assert float(psnr(x, x + 0.1, data_range=1)) == pytest.approx(20)


def test_only_the_hole_counts():
    x, _ = pair(10, 11, channels=2)
    y, mask = x.clone(), torch.zeros(2, 1, 10, 11)
    mask[:, :, 2:5, 3:7] = 1
    y[:, :, 2:5, 3:7] = 0
    y[0, :, 9] = 0.9
    assert mse(x, y, mask)[0] == pytest.approx(float(x[0, :, 2:5, 3:7].square().mean()))
    assert mae(x, y, mask)[1] == pytest.approx(float(x[1, :, 2:5, 3:7].abs().mean()))
    assert mae(x, y, 1 - mask)[1] == 0
    np.testing.assert_allclose(psnr(x, y, mask=mask), 10 * np.log10(4 / mse(x, y, mask)))
    assert psnr(x, y, mask=torch.ones_like(mask)).tolist() == pytest.approx(psnr(x, y).tolist())


def test_an_empty_mask_gives_nan_and_is_left_out(tmp_path):
    x, y = pair(8, 8)
    mask = torch.zeros(2, 1, 8, 8)
    mask[1, 0, 4] = 1
    assert torch.isnan(mse(x, y, mask)).tolist() == [True, False]
    metric = PeakSignalToNoise(region="inside")
    metric(list(x), list(torch.cat([y, mask], 1)))
    entry = MetricsReport({"psnr": metric}, tmp_path).collect()["metrics"]["psnr[inside]"]
    assert entry["n"] == 1
    assert entry["value"] == pytest.approx(float(psnr(x, y, mask=mask)[1]))


def test_regions_of_the_metric():
    x, y = pair(9, 9)
    mask = torch.zeros(2, 1, 9, 9)
    mask[:, :, :4] = 1
    reference = torch.cat([y, mask], 1)
    inside, outside = MeanSquaredError(region="inside"), MeanSquaredError(region="outside")
    for metric in (inside, outside):
        metric(x, reference)
    assert (inside.label, outside.label) == ("mse[inside]", "mse[outside]")
    assert inside.per_case().tolist() == mse(x, y, mask).tolist()
    assert outside.per_case().tolist() == mse(x, y, 1 - mask).tolist()
    with pytest.raises(ValueError, match="mask as its last channel"):
        inside(x, y)


def from_zero(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return ssim((x + 1) / 2, (y + 1) / 2, data_range=1)


def test_ssim_depends_on_where_the_intensities_begin():
    """Images in [-1, 1] have another SSIM than the same images from 0; the metric takes the latter."""
    x, y = real_pair()
    metric = StructuralSimilarity()
    metric(x, y)
    np.testing.assert_allclose(metric.per_case(), from_zero(x, y), rtol=1e-6)
    assert float((ssim(x, y) - from_zero(x, y)).abs().max()) > 1e-3


def test_metrics_in_a_report(tmp_path):
    x, y = pair(12, 13)
    metrics = {k.name: k() for k in (MeanSquaredError, MeanAbsoluteError, PeakSignalToNoise, StructuralSimilarity)}
    for metric in metrics.values():
        metric(list(MetaTensor(x)), list(MetaTensor(y)))
    metrics["psnr"]([x[0]], [x[0]])
    found = json.loads(json.dumps(MetricsReport(metrics, tmp_path).collect()["metrics"]))
    for name, function in (("mse", mse), ("mae", mae), ("psnr", psnr), ("ssim", from_zero)):
        assert found[name]["value"] == pytest.approx(float(function(x, y).mean()))
        assert found[name]["n"] == 2
        assert found[name]["interval95"][0] <= found[name]["value"] <= found[name]["interval95"][1]
        assert found[name]["value_range"] == [-1, 1]
        assert float(metrics[name].aggregate()) == pytest.approx(found[name]["value"])
    assert found["psnr"]["identical_pairs"] == 1
    assert found["ssim"]["window"] == 11


def test_bad_input():
    x, y = pair(12, 12)
    for function in (mse, mae, psnr, ssim):
        with pytest.raises(ValueError, match="one shape"):
            function(x, y[..., :-1])
        with pytest.raises(ValueError, match="one shape"):
            function(x, y.repeat(1, 3, 1, 1))
        with pytest.raises(ValueError, match="NaN"):
            function(x * float("nan"), y)
    for function in (psnr, ssim):
        with pytest.raises(ValueError, match=r"span \[-1, 2\d\d.*range of 2"):
            function(torch.full_like(x, -1), 100 * y.abs() + 200)
    for message, call in (
        (r"Values lie in \[-0.9.*declared was \[0, 1\]", lambda: MeanSquaredError(value_range=(0, 1))(x, y)),
        ("value_range must", lambda: MeanSquaredError(value_range=(1, -1))),
        ("positive", lambda: ssim(x, y, data_range=0)),
        ("at least 3 voxels", lambda: ssim(x[..., :2], y[..., :2])),
        ("does not fit", lambda: mse(x, y, torch.ones(2, 1, 12, 11))),
        ("region must be", lambda: MeanAbsoluteError(region="hole")),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_background_is_what_is_dark_all_around_and_in_the_mask():
    reference = torch.full((2, 1, 16, 16), -1.0)
    reference[0, :, 12:] = 0.0  # rows 9 to 11 are within three pixels of it
    mask = torch.zeros(2, 1, 16, 16)
    mask[0, :, 4:] = 1
    drawn = reference.clone()
    drawn[:, :, 4:9] += 3 * 2 / 255
    drawn[:, :, 9:] += 0.5
    metric = BackgroundDeviation()
    metric(drawn, torch.cat([reference, mask], dim=1))
    values = metric.per_case()
    assert values[0] == pytest.approx(3.0, rel=1e-5)
    assert values[1].isnan(), "without a hole there is nothing to measure"
    assert metric.label == "background_rms[inside]"
