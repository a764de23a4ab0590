from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.metrics import MMDMetric
from sklearn.metrics.pairwise import rbf_kernel as sklearn_rbf

from common.metrics.mmd import MaximumMeanDiscrepancy, linear_kernel, median_bandwidth, mmd2_unbiased, rbf_kernel


def sets(n: int = 6, m: int = 5, d: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, d, generator=generator), torch.randn(m, d, generator=generator) + 0.4


def double_loop(x, y, k) -> float:
    n, m = len(x), len(y)
    total = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    total += sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return total - 2 * sum(k(a, b) for a in x for b in y) / (n * m)


def test_both_kernels_agree_with_a_double_loop():
    x, y = (v.double().numpy() for v in sets())
    tx, ty = sets()
    assert mmd2_unbiased(tx, ty, linear_kernel) == pytest.approx(double_loop(x, y, np.dot), rel=1e-10)
    gauss = double_loop(x, y, lambda a, b: np.exp(-np.sum((a - b) ** 2) / (2 * 1.7**2)))
    assert mmd2_unbiased(tx, ty, rbf_kernel(1.7)) == pytest.approx(gauss, rel=1e-10)


def test_gaussian_kernel_agrees_with_sklearn():
    x, y = (v.double() for v in sets())
    np.testing.assert_allclose(rbf_kernel(1.3)(x, y), sklearn_rbf(x, y, gamma=1 / (2 * 1.3**2)), rtol=1e-10)


def test_linear_metric_is_monais_for_volumes_of_one_size():
    generator = torch.Generator().manual_seed(1)
    fake, real = (torch.rand(4, 1, 5, 6, 4, generator=generator) for _ in range(2))
    metric = MaximumMeanDiscrepancy("linear")
    for f, r in zip(fake, real):
        metric([f], [r])
    assert float(metric.aggregate()) == pytest.approx(float(MMDMetric()(real, fake)), rel=1e-3)


def test_volumes_of_different_sizes_are_cropped_at_their_centres():
    generator = torch.Generator().manual_seed(2)
    core = torch.rand(4, 1, 5, 6, 4, generator=generator)
    padded = torch.nn.functional.pad(core, (1, 1, 2, 2, 1, 1), value=9.0)
    plain, mixed = MaximumMeanDiscrepancy(), MaximumMeanDiscrepancy()
    plain(list(core[:2]), list(core[2:]))
    mixed([core[0], padded[1]], [padded[2], core[3]])
    assert mixed.report() == plain.report()
    assert mixed.report()["size"] == [5, 6, 4]


def test_reset_forgets():
    metric = MaximumMeanDiscrepancy("linear")
    first, second = torch.rand(3, 1, 4, 4, 4), torch.rand(3, 1, 4, 4, 4) + 3
    metric(first, second)
    before = float(metric.aggregate())
    metric.reset()
    metric(second, first + 1)
    assert metric.report()["n"] == {"generated": 3, "real": 3}
    assert float(metric.aggregate()) != before


def test_median_heuristic():
    points = torch.tensor([[0.0], [1.0], [3.0]])
    assert median_bandwidth(points[:1], points[1:]) == 2.0
    with pytest.raises(ValueError, match="give a bandwidth"):
        median_bandwidth(torch.zeros(2, 3), torch.zeros(2, 3))


def test_bad_input():
    x, y = sets()
    with pytest.raises(ValueError, match="at least two images"):
        mmd2_unbiased(x[:1], y, linear_kernel)
    with pytest.raises(ValueError, match="NaN"):
        mmd2_unbiased(x * float("nan"), y, linear_kernel)
    with pytest.raises(ValueError, match="one length"):
        mmd2_unbiased(x, y[:, :3], linear_kernel)
    with pytest.raises(ValueError, match="kernel must be"):
        MaximumMeanDiscrepancy("poly")
