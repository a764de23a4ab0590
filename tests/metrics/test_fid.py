from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from common.metrics.fid import fid, kid
from common.metrics.frechet import GaussianStatistics, frechet_distance


def features(n: int, d: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(d, d, generator=generator, dtype=torch.float64)
    return torch.randn(n, d, generator=generator, dtype=torch.float64) @ mixing + 5


def test_distance_of_gaussians_with_diagonal_covariances_is_the_closed_form():
    mean_a, mean_b = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([0.0, 1.0, 0.5])
    std_a, std_b = torch.tensor([1.0, 2.0, 0.0]), torch.tensor([3.0, 0.5, 1.5])
    expected = float(((mean_a - mean_b) ** 2).sum() + ((std_a - std_b) ** 2).sum())
    found = frechet_distance(mean_a, torch.diag(std_a**2), mean_b, torch.diag(std_b**2))
    assert found == pytest.approx(expected, rel=1e-12)


def test_fid_agrees_with_the_sqrtm_formula():
    a, b = features(200, 12, 0), features(150, 12, 1)
    cov_a, cov_b = np.cov(a.numpy(), rowvar=False), np.cov(b.numpy(), rowvar=False)
    delta = a.mean(0).numpy() - b.mean(0).numpy()
    expected = delta @ delta + np.trace(cov_a + cov_b - 2 * np.real(sqrtm(cov_a @ cov_b)))
    assert fid(a, b) == pytest.approx(float(expected), rel=1e-8)


def test_fid_of_fewer_images_than_features_is_exact():
    # Both sets lie in one 3-dimensional subspace, turned at random in 40 dimensions: the distance is that inside it.
    a, b = features(8, 3, 2), features(9, 3, 3)
    turn = torch.linalg.qr(features(40, 40, 4))[0][:3]
    inside = fid(a, b)
    assert inside > 1
    assert fid(a @ turn, b @ turn) == pytest.approx(inside, rel=1e-6)


def test_fid_of_identical_rank_deficient_sets_is_zero():
    a = features(6, 40, 5)
    assert fid(a, a) < 1e-6 * float(a.var(0).sum())


def test_fid_of_a_shift_is_its_squared_length():
    a = features(10, 30, 6)
    assert fid(a, a + 0.5) == pytest.approx(30 * 0.25, rel=1e-6)


def test_statistics_in_batches_equal_numpy_even_far_from_zero():
    a = features(50, 4, 7) + 1e6
    statistics = GaussianStatistics(4)
    for batch in a.split([1, 20, 3, 26]):
        statistics.update(batch)
    np.testing.assert_allclose(statistics.mean, a.numpy().mean(0), rtol=1e-12)
    np.testing.assert_allclose(statistics.covariance, np.cov(a.numpy(), rowvar=False), rtol=1e-7)


def test_statistics_survive_packing():
    statistics = GaussianStatistics(4)
    statistics.update(features(9, 4, 8))
    other = GaussianStatistics.unpacked(statistics.packed(), 4)
    assert other.n == 9
    assert torch.equal(other.covariance, statistics.covariance)


def test_kid_agrees_with_a_double_loop():
    a, b = features(5, 3, 9), features(4, 3, 10)

    def k(x, y):
        return (float(x @ y) / 3 + 1) ** 3

    within_a = np.mean([k(a[i], a[j]) for i in range(5) for j in range(5) if i != j])
    within_b = np.mean([k(b[i], b[j]) for i in range(4) for j in range(4) if i != j])
    across = np.mean([k(x, y) for x in a for y in b])
    assert kid(a, b) == pytest.approx(within_a + within_b - 2 * across, rel=1e-10)


def test_kid_of_one_distribution_is_zero_on_average():
    values = [kid(torch.randn(6, 4, generator=g), torch.randn(6, 4, generator=g)) for g in map(seeded, range(300))]
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(300)
    assert min(values) < 0


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_fid_refuses_one_image_nan_and_other_sizes():
    with pytest.raises(ValueError, match="at least two images, got 1"):
        fid(features(1, 3, 0), features(5, 3, 1))
    with pytest.raises(ValueError, match="NaN"):
        fid(torch.full((3, 2), float("nan")), features(5, 2, 1))
    with pytest.raises(ValueError, match="differ in size"):
        fid(features(5, 3, 0), features(5, 4, 1))
