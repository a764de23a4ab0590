from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.stats import t
from torch import nn

from common.features.features import FeatureNetwork
from common.metrics.frechet import FrechetDistanceMetric, GaussianStatistics, fid, fid_interval, frechet_distance
from common.networks.classifiers import import_torchvision


def features(n: int, d: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(d, d, generator=generator, dtype=torch.float64)
    return torch.randn(n, d, generator=generator, dtype=torch.float64) @ mixing + 5


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


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


def test_fid_refuses_one_image_nan_and_other_sizes():
    with pytest.raises(ValueError, match="at least two images, got 1"):
        fid(features(1, 3, 0), features(5, 3, 1))
    with pytest.raises(ValueError, match="NaN"):
        fid(torch.full((3, 2), float("nan")), features(5, 2, 1))
    with pytest.raises(ValueError, match="differ in size"):
        fid(features(5, 3, 0), features(5, 4, 1))


def test_distance_of_gaussians_that_do_not_commute_is_the_closed_form_in_two_dimensions():
    # For 2 x 2 matrices tr (AB)^(1/2) = (tr AB + 2 (det A det B)^(1/2))^(1/2).
    a = torch.tensor([[2.0, 0.6], [0.6, 1.0]], dtype=torch.float64)
    b = torch.tensor([[1.0, -0.8], [-0.8, 3.0]], dtype=torch.float64)
    cross = ((a @ b).trace() + 2 * (a.det() * b.det()).sqrt()).sqrt()
    expected = float(a.trace() + b.trace() - 2 * cross) + 5
    found = frechet_distance(torch.tensor([1.0, 2.0]), a, torch.zeros(2), b)
    assert found == pytest.approx(expected, rel=1e-12)


def test_one_gaussian_of_rank_one_has_a_closed_form_and_sqrtm_is_not_needed():
    # A = u u^T: (AB)^(1/2) has the trace (u^T B u)^(1/2).
    generator = seeded(11)
    u = torch.randn(20, generator=generator, dtype=torch.float64)
    mixing = torch.randn(20, 6, generator=generator, dtype=torch.float64)
    b = mixing @ mixing.T
    zero = torch.zeros(20)
    expected = float(u @ u + b.trace() - 2 * (u @ b @ u).sqrt())
    assert frechet_distance(zero, torch.outer(u, u), zero, b) == pytest.approx(expected, rel=1e-9)


def test_fid_agrees_with_pytorch_fid():
    pytest.importorskip("pytorch_fid")
    import_torchvision()
    from pytorch_fid.fid_score import calculate_frechet_distance

    a, b = features(300, 24, 12), features(280, 24, 13)
    moments = [v for x in (a, b) for v in (x.numpy().mean(0), np.cov(x.numpy(), rowvar=False))]
    assert fid(a, b) == pytest.approx(float(calculate_frechet_distance(*moments)), rel=1e-4)


def interval(a: torch.Tensor, b: torch.Tensor) -> list[float] | None:
    """Of ten groups, row i in group i modulo 10."""
    sides = []
    for x in (a, b):
        sides.append([GaussianStatistics(x.shape[1]) for _ in range(10)])
        for group, own in enumerate(sides[-1]):
            own.update(x[group::10]) if len(x) > group else None
    return fid_interval(*sides, fid(a, b))


def test_two_known_gaussians_are_measured_within_the_interval():
    inside = 0
    for seed in range(20):
        g = seeded(seed)
        a = torch.randn(400, 3, generator=g, dtype=torch.float64)
        b = 2 * torch.randn(400, 3, generator=g, dtype=torch.float64) + 1
        low, high = interval(a, b)
        inside += low <= 3 * (1 + 1) <= high  # |m|^2 = 3, (2 - 1)^2 a dimension
    assert inside >= 16


def test_jackknife_over_equal_groups_is_the_textbook_formula():
    a, b = features(40, 2, 14), features(40, 2, 15)
    value = fid(a, b)
    left = [fid(a[torch.arange(40) % 10 != g], b[torch.arange(40) % 10 != g]) for g in range(10)]
    half = t.ppf(0.975, 9) * np.sqrt(0.9 * ((np.array(left) - np.mean(left)) ** 2).sum())
    np.testing.assert_allclose(interval(a, b), [max(0, value - half), value + half], rtol=1e-6)
    assert interval(a[:1].repeat(2, 1), b[:2]) is None


class Slices(nn.Module):
    """Mean and spread of a 2D image."""

    spatial_dims = 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x.flatten(2).mean(2), x.flatten(2).std(2)], dim=1)


def test_memory_does_not_grow_and_the_order_of_the_images_does_not_matter():
    network = FeatureNetwork(f"{__name__}:Slices")
    generated, real = torch.rand(60, 1, 5, 5, generator=seeded(0)), torch.rand(60, 1, 5, 5, generator=seeded(1)) ** 2
    reports = []
    for order in (torch.arange(60), torch.randperm(60, generator=seeded(2))):
        metric = FrechetDistanceMetric(network)
        held = set()
        for rows in order.split(7):
            metric(generated[rows], real[rows])
            held.add(sum(part.mean.numel() + part.scatter.numel() for own in metric._statistics for part in own))
        assert held == {2 * 10 * (2 + 4)}
        reports.append(metric.report())
    assert reports[0]["value"] == pytest.approx(reports[1]["value"], rel=1e-9)
    assert reports[0]["interval95"] == pytest.approx(reports[1]["interval95"], rel=1e-6)
    assert "10 groups" in reports[0]["interval_by"]
    metric.reset()
    with pytest.raises(ValueError, match="no images seen"):
        metric.report()
    with pytest.raises(ValueError, match="needs generated and real"):
        metric(generated)
    with pytest.raises(ValueError, match="groups must be"):
        FrechetDistanceMetric(network, groups=0)


def test_distances_of_the_same_real_images_are_compared_by_groups_of_pairs():
    real = torch.rand(60, 1, 8, 8, generator=seeded(0))
    noise = torch.randn(60, 1, 8, 8, generator=seeded(1))
    metrics = {
        scale: FrechetDistanceMetric(FeatureNetwork(f"{__name__}:Slices"), groups=10) for scale in (0.1, 0.11, 0.5)
    }
    for scale, metric in metrics.items():
        metric(real + scale * noise, real)
    assert metrics[0.1].difference(metrics[0.1]) == {"value": 0.0, "interval95": [0.0, 0.0], "n": 60}
    found = metrics[0.11].difference(metrics[0.1])
    assert found["value"] == metrics[0.11].report()["value"] - metrics[0.1].report()["value"]
    low, high = found["interval95"]
    alone = metrics[0.11].report()["interval95"]
    assert high - low < 0.5 * (alone[1] - alone[0]), "what both share cancels"
    assert metrics[0.5].difference(metrics[0.1])["interval95"][0] > 0
    other = FrechetDistanceMetric(FeatureNetwork(f"{__name__}:Slices"), groups=10)
    other(noise[:30], real[:30])
    assert other.difference(metrics[0.1])["interval95"] is None, "of other cases"
