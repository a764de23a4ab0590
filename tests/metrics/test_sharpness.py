from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, laplace
from skimage import io

from common.metrics.sharpness import Acutance, Grain, acutance, grain
from tests.fixtures import real_data


def images(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_a_ramp_from_side_to_side_is_higgins_and_jones_edge():
    """Gradient 2 / 15 mm everywhere, contrast 2: G^2 / contrast = 2 / 15^2."""
    ramp = torch.linspace(-1, 1, 11, dtype=torch.float64)[:, None].expand(11, 7)[None, None]
    assert float(acutance(ramp, 1.5)) == pytest.approx(2 / 15**2)
    assert float(acutance(ramp, (1.5, 40))) == pytest.approx(2 / 15**2)


@pytest.mark.parametrize("width", [1, 2, 5])
def test_an_edge_is_as_sharp_as_it_is_narrow(width):
    """A rise of 0.8 over ``width`` of 20 steps: the sum of squares is 0.8^2 / width."""
    profile = torch.cat([torch.zeros(8), torch.arange(1, width + 1) / width, torch.ones(13 - width)]).double()
    volume = 0.8 * profile[None, None, None, :, None].expand(1, 1, 4, 21, 3) - 0.3
    assert float(acutance(volume, (1, 0.5, 2))) == pytest.approx(0.8 / width / 0.5**2 / 20)


@pytest.mark.parametrize("size", [(9, 12), (6, 7, 8)])
def test_agrees_with_differences_by_numpy(size):
    x, spacing = images(*size), np.array((0.7, 1.3, 2.1)[: len(size)])
    expected = []
    for image in x[:, 0].double().numpy():
        squared = sum(np.mean((np.diff(image, axis=a) / h) ** 2) for a, h in enumerate(spacing))
        expected.append(squared / (image.max() - image.min()))
    np.testing.assert_allclose(acutance(x, spacing.tolist()), expected, rtol=1e-12)


def test_units():
    x = images(8, 9)
    one = acutance(x, 1)
    np.testing.assert_allclose(acutance(x, 0.5), 4 * one)
    np.testing.assert_allclose(acutance(3 * x + 1, 1), 3 * one, rtol=1e-6)
    np.testing.assert_allclose(acutance(x.transpose(2, 3), 1), one, rtol=1e-12)


def test_sees_a_pattern_from_voxel_to_voxel():
    board = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).repeat(4, 4)[None, None]
    assert float(acutance(board, 1)) == 2


def test_blur_takes_sharpness_from_a_real_image():
    file = sorted((real_data("chest_xray") / "train" / "normal").glob("*.jpeg"))[0]
    image = io.imread(file).astype(float) / 127.5 - 1
    values = [float(acutance(torch.from_numpy(gaussian_filter(image, s))[None, None], 1)) for s in (0, 0.5, 1, 2, 4)]
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.3 * values[0]


def test_a_constant_image_has_none():
    assert acutance(torch.full((2, 1, 5, 5, 5), 0.3), 1).tolist() == [0, 0]
    mixed = torch.cat([images(6, 6), torch.zeros(2, 1, 6, 6)], dim=1)
    np.testing.assert_allclose(acutance(mixed, 1), acutance(mixed[:, :1], 1) / 2)


def test_a_mask_keeps_the_outside_of_acutance_out():
    x = images(10, 10)
    mask = torch.zeros(2, 1, 10, 10)
    mask[:, :, 2:7, 3:9] = 1
    expected = acutance(x[:, :, 2:7, 3:9], 1)
    x[:, :, :2] = 50
    np.testing.assert_allclose(acutance(x, 1, mask), expected, rtol=1e-12)


def test_a_linear_ramp_has_no_grain_and_a_parabola_its_second_derivative():
    i, j, k = torch.meshgrid(*[torch.arange(n, dtype=torch.float64) for n in (6, 7, 5)], indexing="ij")
    ramp = (0.1 * i - 0.2 * j + 0.3 * k)[None, None]
    parabola = (0.05 * i**2 + 0.02 * k**2)[None, None]
    assert float(grain(ramp)) == pytest.approx(0, abs=1e-20)
    assert float(grain(parabola)) == pytest.approx((0.1 + 0.04) ** 2)


def test_white_noise_gives_42_times_its_variance():
    noise = 0.1 * torch.randn(1, 1, 60, 60, 60, generator=torch.Generator().manual_seed(0))
    assert float(grain(noise)) == pytest.approx(42 * 0.01, rel=0.03)


def test_agrees_with_scipy_and_ignores_the_outermost_voxels():
    x = torch.rand(2, 1, 6, 7, 8, generator=torch.Generator().manual_seed(1)).double()
    inner = (slice(1, -1),) * 3
    expected = [np.mean(laplace(v[0].numpy())[inner] ** 2) for v in x]
    np.testing.assert_allclose(grain(x), expected, rtol=1e-12)


def test_a_mask_limits_what_counts_as_grain():
    x = torch.zeros(1, 1, 7, 7, 7)
    x[0, 0, 3, 3, 3] = 1
    far, near = torch.full_like(x, -1), torch.full_like(x, -1)
    far[0, 0, 5, 5, 5] = 1
    near[0, 0, 3, 3, 3:5] = 1
    assert float(grain(x, far)) == 0
    assert float(grain(x, near)) == pytest.approx((36 + 1) / 2)


def test_metric_looks_at_one_of_the_two():
    x, y = torch.zeros(1, 5, 5, 5), torch.randn(1, 5, 5, 5)
    generated, real, sharp = Grain("generated"), Grain("real"), Acutance((1, 2, 3), "real")
    for metric in (generated, real, sharp):
        metric([x, x], [y, y])
    assert float(generated.aggregate()) == 0
    assert float(real.aggregate()) == pytest.approx(float(grain(y[None])))
    assert float(sharp.aggregate()) == pytest.approx(float(acutance(y[None], (1, 2, 3))))
    assert sharp.report()["spacing_mm"] == [1, 2, 3]


def test_bad_input():
    x, volume = images(5, 5), torch.zeros(1, 1, 5, 5, 5)
    for function, message in (
        (lambda: acutance(x, (1, 1, 1)), "one for each of 2 axes"),
        (lambda: acutance(x, 0), "positive"),
        (lambda: acutance(x / 0, 1), "NaN"),
        (lambda: acutance(x[:, :, :1, :1], 1), "at least 2 voxels"),
        (lambda: acutance(x, 1, torch.ones(2, 1, 5, 4)), "does not fit"),
        (lambda: acutance(x, 1, torch.eye(5).expand(2, 1, 5, 5)), "two neighbouring"),
        (lambda: grain(volume[..., :2]), "at least 3 voxels"),
        (lambda: grain(volume / 0), "NaN"),
        (lambda: grain(volume, volume[..., :4]), "does not fit"),
        (lambda: grain(volume, volume), "no voxel"),
        (lambda: Acutance(1, "fake"), "of must be"),
        (lambda: Grain("fake"), "of must be"),
        (lambda: Grain("real")(volume), "needs real images"),
    ):
        with pytest.raises(ValueError, match=message):
            function()
