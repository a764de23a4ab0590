from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import pytorch_msssim
import torch
from monai.metrics import MultiScaleSSIMMetric
from scipy.ndimage import correlate1d
from skimage.metrics import structural_similarity

from common.evaluation.report import MetricsReport
from common.metrics.diversity import SetMSSSIM
from common.metrics.ssim import WEIGHTS, PairedMSSSIM, Scales, ms_ssim, scales_for
from tests.fixtures import real_data


def pair(*size: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(2, 1, *size, generator=generator) * 2 - 1
    return x, (0.7 * x + 0.3 * (torch.rand(2, 1, *size, generator=generator) * 2 - 1)).clamp(-1, 1)


def independent(x: np.ndarray, y: np.ndarray, scales: Scales, data_range: float = 2.0) -> float:
    """MS-SSIM of two volumes by scipy: full-size correlations cut to where the window fits, pooling by reshaping."""
    half = scales.window // 2
    window = np.exp(-(np.arange(-half, half + 1) ** 2) / (2 * scales.sigma**2))
    window /= window.sum()
    inner = tuple(slice(half, -half) for _ in x.shape)

    def blur(v):
        for axis in range(v.ndim):
            v = correlate1d(v, window, axis)
        return v[inner]

    c1, c2, result = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2, 1.0
    for level, weight in enumerate(scales.weights):
        mx, my = blur(x), blur(y)
        vx, vy, vxy = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
        contrast = (2 * vxy + c2) / (vx + vy + c2)
        last = level == len(scales.weights) - 1
        result *= np.mean(contrast * ((2 * mx * my + c1) / (mx**2 + my**2 + c1) if last else 1)) ** weight
        even = tuple(slice(0, n // 2 * 2) for n in x.shape)
        blocks = [k for n in x.shape for k in (n // 2, 2)]
        x, y = (v[even].reshape(blocks).mean(tuple(range(1, 2 * v.ndim, 2))) for v in (x, y))
    return float(result)


@pytest.mark.parametrize("size", [(24, 35, 27), (44, 45)])
def test_agrees_with_an_independent_formula(size):
    x, y = pair(*size)
    found = ms_ssim(x, y)
    for case in range(2):
        expected = independent(x[case, 0].double().numpy(), y[case, 0].double().numpy(), scales_for(size))
        assert float(found[case]) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("size", [(45, 46, 47), (180, 176)])
def test_agrees_with_monai_where_it_runs(size):
    x, y = pair(*size)
    scales = scales_for(size)
    monai = MultiScaleSSIMMetric(len(size), data_range=2.0, weights=scales.weights)(x, y)
    np.testing.assert_allclose(ms_ssim(x, y), monai[:, 0], rtol=1e-4)


@pytest.mark.parametrize(
    ("size", "scales"),
    [
        ((176, 192), scales_for((176, 192))),
        # The package takes five scales or none, so windows as small as this where 3D is not to take minutes.
        ((48, 64, 48), Scales(3, 1.5, WEIGHTS)),
    ],
)
def test_agrees_with_pytorch_msssim(size, scales):
    x, y = pair(*size)
    found = ms_ssim(x, y, scales=scales)
    x, y = x.double(), y.double()
    options = {"data_range": 2.0, "size_average": False, "win_size": scales.window, "win_sigma": scales.sigma}
    expected = pytorch_msssim.ms_ssim(x, y, weights=list(scales.weights), **options)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_agrees_on_real_volumes_of_about_32_a_side():
    """Two hippocampi, cropped to the sides they share; MONAI's with the same window, and scipy's formula."""
    files = sorted((real_data("hippocampus_mr") / "images").glob("*.nii*"))[:2]
    volumes = [nib.load(f).get_fdata() for f in files]
    size = [min(sides) for sides in zip(*(v.shape for v in volumes))]
    x, y = (2 * v / v.max() - 1 for v in (v[tuple(slice(0, n) for n in size)] for v in volumes))
    scales = scales_for(size)
    assert len(scales.weights) == 2
    found = float(ms_ssim(torch.from_numpy(x)[None, None], torch.from_numpy(y)[None, None]))
    assert found == pytest.approx(independent(x, y, scales), rel=1e-9)
    monai = MultiScaleSSIMMetric(3, data_range=2.0, weights=scales.weights)
    assert found == pytest.approx(
        float(monai(torch.from_numpy(x)[None, None], torch.from_numpy(y)[None, None])), rel=1e-4
    )


@pytest.mark.parametrize("dims", [2, 3])
def test_32_a_side_has_two_scales_between_pairs_and_within_a_set(dims):
    x, y = pair(*[32] * dims)
    paired, within = PairedMSSSIM(), SetMSSSIM("generated")
    for metric in (paired, within):
        metric(x, y)
    assert paired.report()["scales"] == [{"window": 11, "scales": 2, "pairs": 2}]
    assert len(within.report()["scales"]["weights"]) == 2
    assert float(within.aggregate()) < float(paired.aggregate()) < 1


def test_one_scale_is_ssim_of_scikit_image():
    x, y = pair(15, 16, 17)
    _, full = structural_similarity(
        x[0, 0].double().numpy(),
        y[0, 0].double().numpy(),
        data_range=2.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    assert float(ms_ssim(x, y)[0]) == pytest.approx(float(full[5:-5, 5:-5, 5:-5].mean()), rel=1e-6)


def test_identical_images_give_one_and_opposite_ones_zero():
    x, _ = pair(24, 24, 24)
    assert ms_ssim(x, x).tolist() == pytest.approx([1, 1])
    assert float(ms_ssim(x, -x).max()) == 0


def test_constant_images_compare_by_luminance_alone():
    a, b = torch.full((1, 1, 12, 12, 12), 0.5), torch.full((1, 1, 12, 12, 12), -0.2)
    c1 = (0.01 * 2) ** 2
    assert float(ms_ssim(a, b).clamp(min=-1)) == pytest.approx(max(0, (2 * 0.5 * -0.2 + c1) / (0.25 + 0.04 + c1)))
    assert float(ms_ssim(a, a)) == pytest.approx(1)


@pytest.mark.parametrize(
    ("side", "window", "number"),
    [(6, 5, 1), (11, 11, 1), (22, 11, 2), (32, 11, 2), (64, 11, 3), (128, 11, 4), (176, 11, 5)],
)
def test_scales_go_by_the_smallest_side(side, window, number):
    scales = scales_for((side, 300, 300))
    assert scales.window == window
    assert len(scales.weights) == number
    assert sum(scales.weights) == pytest.approx(1)
    assert scales.weights[0] == pytest.approx(WEIGHTS[0] / sum(WEIGHTS[:number]))


def test_paired_metric_in_a_report(tmp_path):
    x, y = pair(12, 13, 14)
    metric = PairedMSSSIM()
    metric(list(x), list(y))
    metric([x[0, :, :8]], [y[0, :, :8]])
    entry = MetricsReport({"ms_ssim": metric}, tmp_path).collect()["metrics"]["ms_ssim_paired"]
    x, y = x + 1, y + 1
    values = [*ms_ssim(x, y).tolist(), float(ms_ssim(x[:1, :, :8], y[:1, :, :8]))]
    assert float(metric.aggregate()) == pytest.approx(np.mean(values))
    assert entry["value"] == pytest.approx(np.mean(values))
    assert entry["interval95"][0] <= entry["value"] <= entry["interval95"][1]
    assert entry["scales"] == [{"window": 7, "scales": 1, "pairs": 1}, {"window": 11, "scales": 1, "pairs": 2}]


def test_values_depend_on_where_the_intensities_begin():
    x, y = pair(14, 15, 16)
    paired, within = PairedMSSSIM(), SetMSSSIM("real")
    for metric in (paired, within):
        metric(x, y)
    np.testing.assert_allclose(paired.per_case(), ms_ssim((x + 1) / 2, (y + 1) / 2, 1), rtol=1e-6)
    assert float(within.aggregate()) == pytest.approx(float(ms_ssim(y[:1] + 1, y[1:] + 1)), rel=1e-6)
    assert float((paired.per_case() - ms_ssim(x, y)).abs().max()) > 1e-3
    assert paired.report()["value_range"] == within.report()["value_range"] == [-1, 1]


def test_bad_input():
    x, y = pair(12, 12, 12)
    for message, call in (
        ("one shape", lambda: ms_ssim(x, y[..., :-1])),
        ("NaN", lambda: ms_ssim(x * float("nan"), y)),
        (r"span \[-\d+.*data_range of 2", lambda: ms_ssim(100 * x, 100 * y)),
        ("positive", lambda: ms_ssim(x, y, data_range=0)),
        ("at least 3 voxels", lambda: scales_for((2, 40, 40))),
    ):
        with pytest.raises(ValueError, match=message):
            call()
