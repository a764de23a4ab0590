from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from common.metrics import neighbours as module
from common.metrics.neighbours import CoverageMetric, density_coverage, precision_recall


def sets(n: int = 40, m: int = 33, d: int = 6, shift: float = 0.7) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, d, generator=generator) + 100, 0.8 * torch.randn(m, d, generator=generator) + 100 + shift


def by_loops(real: np.ndarray, fake: np.ndarray, k: int) -> tuple[float, float, float, float]:
    def radius(points: np.ndarray, i: int) -> float:
        return sorted(np.linalg.norm(points[i] - p) for j, p in enumerate(points) if j != i)[k - 1]

    def inside(point: np.ndarray, points: np.ndarray) -> list[bool]:
        return [bool(np.linalg.norm(point - p) <= radius(points, i)) for i, p in enumerate(points)]

    precision = np.mean([any(inside(f, real)) for f in fake])
    recall = np.mean([any(inside(r, fake)) for r in real])
    hits = np.array([inside(f, real) for f in fake])
    return float(precision), float(recall), float(hits.sum() / (k * len(fake))), float(hits.any(0).mean())


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("elements", [64, 2**22])
def test_all_four_agree_with_loops_in_any_blocks(k, elements, monkeypatch):
    monkeypatch.setattr(module, "_ELEMENTS", elements)
    real, fake = sets(15, 11)
    expected = by_loops(real.double().numpy(), fake.double().numpy(), k)
    found = (*precision_recall(real, fake, k), *density_coverage(real, fake, k))
    assert found == pytest.approx(expected, abs=1e-12)
    assert 0 < expected[0] < 1


def test_all_four_agree_with_sklearns_neighbours():
    real, fake = (s.double().numpy() for s in sets(150, 120))
    radius_real = NearestNeighbors(n_neighbors=6).fit(real).kneighbors(real)[0][:, 5]
    radius_fake = NearestNeighbors(n_neighbors=6).fit(fake).kneighbors(fake)[0][:, 5]
    distance, _ = NearestNeighbors(n_neighbors=len(real)).fit(real).kneighbors(fake, return_distance=True)
    order = NearestNeighbors(n_neighbors=len(real)).fit(real).kneighbors(fake, return_distance=False)
    across = np.take_along_axis(distance, order.argsort(1), axis=1)
    inside = across <= radius_real
    p, r = precision_recall(*sets(150, 120), k=5)
    d, c = density_coverage(*sets(150, 120), k=5)
    assert p == pytest.approx(inside.any(1).mean())
    assert r == pytest.approx((across <= radius_fake[:, None]).any(0).mean())
    assert d == pytest.approx(inside.sum() / (5 * 120))
    assert c == pytest.approx(inside.any(0).mean())


def test_known_answers():
    real, fake = sets(60, 60, shift=0.0)
    assert precision_recall(real, real) == (1, 1)
    assert density_coverage(real, real).coverage == 1
    assert precision_recall(real, fake + 50) == (0, 0)
    assert density_coverage(real, fake + 50) == (0, 0)
    # One mode of two: everything generated is real-like, half of what is real is missed.
    two = torch.cat([real, real + 50])
    assert precision_recall(two, real) == (1, 0.5)
    assert density_coverage(two, real).coverage == 0.5


def test_an_outlier_among_the_real_ones_raises_precision_but_not_density():
    real, fake = sets(60, 60, shift=6.0)
    with_outlier = torch.cat([real, real[:1] + 40])
    assert precision_recall(real, fake).precision < 0.1
    assert precision_recall(with_outlier, fake).precision == 1
    assert density_coverage(with_outlier, fake).density < 0.5


def test_duplicates_have_balls_of_radius_zero_that_hold_only_themselves():
    real = torch.tensor([[0.1, 3.0]] * 4 + [[50.0, 1.0]] * 4)
    fake = torch.tensor([[0.1, 3.0], [0.1, 3.0001], [50.0, 1.0], [9.0, 9.0]])
    assert precision_recall(real, fake).precision == 0.5


def test_coverage_of_one_distribution_is_what_the_paper_derives():
    draws = [torch.Generator().manual_seed(seed) for seed in range(20)]
    values = [density_coverage(*(torch.randn(100, 4, generator=g) for _ in range(2))) for g in draws]
    assert np.mean([v.coverage for v in values]) == pytest.approx(1 - 0.5**5, abs=0.01)
    assert np.mean([v.density for v in values]) == pytest.approx(1, abs=0.05)


def coverage_report(real: torch.Tensor, fake: torch.Tensor, quantity: str, draws: int = 100) -> dict:
    """Of vectors in place of images."""
    metric = CoverageMetric(lambda vectors: vectors, quantity, draws=draws)
    return metric._measure(real, fake)


def test_interval_is_seeded_holds_the_value_and_narrows_with_n():
    small, large = (coverage_report(*sets(n, n), "coverage", draws=50) for n in (40, 400))
    again = coverage_report(*sets(40, 40), "coverage", draws=50)
    assert small == again
    for result in (small, large):
        assert result["interval95"][0] <= result["value"] <= result["interval95"][1]
    assert np.diff(large["interval95"]) < 0.6 * np.diff(small["interval95"])
    assert coverage_report(*sets(8, 8), "coverage")["interval95"] is None


def test_interval_is_as_wide_as_values_of_fresh_samples_scatter():
    def pair(seed: int) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        return [torch.randn(100, 3, generator=generator), torch.randn(100, 3, generator=generator) + 0.8]

    values = [precision_recall(*pair(seed)).precision for seed in range(100)]
    widths = [np.diff(coverage_report(*pair(seed), "precision", draws=60)["interval95"]) for seed in range(10)]
    assert np.mean(widths) == pytest.approx(2 * 1.96 * np.std(values), rel=0.5)


def network() -> SimpleNamespace:
    def features(images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)[:, :4]

    features.label, features.describe = "first_four", lambda: {"name": "first_four"}
    return features


def test_metric_keeps_features_of_batches_and_equals_the_function():
    generator = torch.Generator().manual_seed(3)
    fake, real = torch.rand(20, 1, 4, 4, generator=generator), torch.rand(20, 1, 4, 4, generator=generator)
    metric = CoverageMetric(network(), "recall", draws=20)
    for rows in (slice(0, 7), slice(7, 20)):
        metric(fake[rows], real[rows])
    expected = precision_recall(real.flatten(1)[:, :4], fake.flatten(1)[:, :4]).recall
    report = metric.report()
    assert metric.label == "recall[first_four]"
    assert float(metric.aggregate()) == report["value"] == expected
    assert (report["k"], report["n"], report["feature_size"]) == (3, {"generated": 20, "real": 20}, 4)
    metric.reset()
    metric(fake[:9], real)
    assert metric.report()["n"] == {"generated": 9, "real": 20}
    metric.reset()
    with pytest.raises(ValueError, match="no images seen"):
        metric.report()


def test_bad_input():
    real, fake = sets(5, 5)
    for message, call in (
        ("At least 6 real and 6 generated", lambda: precision_recall(real, fake, k=5)),
        ("At least 6 real and 1 generated", lambda: density_coverage(real, fake)),
        ("NaN", lambda: precision_recall(real, fake * float("nan"))),
        ("one length", lambda: precision_recall(real, fake[:, :3])),
        ("quantity must be one of", lambda: CoverageMetric(network(), "realism")),
        ("k must be", lambda: CoverageMetric(network(), "recall", k=0)),
        ("needs generated and real", lambda: CoverageMetric(network())(torch.zeros(2, 1, 4, 4))),
    ):
        with pytest.raises(ValueError, match=message):
            call()
