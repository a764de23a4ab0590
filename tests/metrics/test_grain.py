from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import laplace

from common.metrics.grain import Grain, grain


def test_a_linear_ramp_has_none_and_a_parabola_its_second_derivative():
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


def test_mask_limits_what_counts():
    x = torch.zeros(1, 1, 7, 7, 7)
    x[0, 0, 3, 3, 3] = 1
    far, near = torch.full_like(x, -1), torch.full_like(x, -1)
    far[0, 0, 5, 5, 5] = 1
    near[0, 0, 3, 3, 3:5] = 1
    assert float(grain(x, far)) == 0
    assert float(grain(x, near)) == pytest.approx((36 + 1) / 2)


def test_metric_looks_at_one_of_the_two():
    x, y = torch.zeros(1, 5, 5, 5), torch.randn(1, 5, 5, 5)
    generated, real = Grain("generated"), Grain("real")
    for metric in (generated, real):
        metric([x, x], [y, y])
    assert float(generated.aggregate()) == 0
    assert float(real.aggregate()) == pytest.approx(float(grain(y[None])))


def test_bad_input():
    with pytest.raises(ValueError, match="at least 3 voxels"):
        grain(torch.zeros(1, 1, 5, 5, 2))
    with pytest.raises(ValueError, match="NaN"):
        grain(torch.full((1, 1, 5, 5, 5), float("nan")))
    with pytest.raises(ValueError, match="does not fit"):
        grain(torch.zeros(1, 1, 5, 5, 5), torch.zeros(1, 1, 5, 5, 4))
    with pytest.raises(ValueError, match="no voxel"):
        grain(torch.zeros(1, 1, 5, 5, 5), torch.zeros(1, 1, 5, 5, 5))
    with pytest.raises(ValueError, match="of must be"):
        Grain("fake")
