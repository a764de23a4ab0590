from __future__ import annotations

import csv
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from scipy.integrate import trapezoid
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from common.evaluation.audit import MemorisationMetric
from common.evaluation.scores import ControlledInferer, RocFigure, ScoreTable, png_bits
from common.metrics.likelihood import (
    BoundTerm,
    OutOfDistributionROC,
    roc_auc,
    roc_curve,
    score_metrics,
    term_of,
)


def gaussian_scores(n: int, shift: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Terms (2n, 3) whose sum is N(0, 1) in set 0 and N(shift, 1) in set 1, and the numbers of the sets."""
    generator = torch.Generator().manual_seed(seed)
    terms = torch.randn(2 * n, 3, generator=generator, dtype=torch.float64) / math.sqrt(3)
    number = torch.arange(2 * n) % 2
    terms[:, 1] += shift * number
    return terms, number


def test_terms_are_in_nats_or_bits_of_set_0():
    terms = torch.tensor([[1.0, 2.0, 0.5], [3.0, 4.0, 0.25], [100.0, 100.0, 100.0]])
    number = torch.tensor([[0], [0], [1]])
    for name, expected in {"reconstruction": 2.0, "diffusion": 3.0, "latent": 0.375, "bound": 5.375}.items():
        for dimensions, unit in ((None, 1.0), (10, 10 * math.log(2))):
            metric = BoundTerm(name, dimensions)
            metric(list(terms), list(number))
            assert float(metric.aggregate()) == pytest.approx(expected / unit)
            assert len(metric.per_case()) == 2
    assert metric.label == "bound [bits/dim]"
    alone = BoundTerm("latent")
    alone(terms)
    assert len(alone.per_case()) == 3


def test_wrong_terms_are_named():
    with pytest.raises(ValueError, match=r"term must be one of .* got 'kl'"):
        BoundTerm("kl")
    with pytest.raises(ValueError, match="dimensions must be at least 1"):
        BoundTerm(dimensions=0)
    with pytest.raises(ValueError, match=r"Terms \(N, 3\) were expected, got shape \(2, 2\)"):
        term_of(torch.zeros(2, 2), "bound")


@pytest.mark.parametrize("shift", [0.0, 1.0, -1.5])
def test_the_area_is_that_of_two_gaussians(shift):
    metric = OutOfDistributionROC(1, "shifted", resamples=200)
    terms, number = gaussian_scores(3000, shift)
    for rows in (slice(0, 2500), slice(2500, 6000)):
        metric(terms[rows], number[rows])
    result = metric.report()
    expected = norm.cdf(shift / math.sqrt(2))
    assert result["value"] == pytest.approx(expected, abs=0.02)
    low, high = result["interval95"]
    assert low < expected < high
    assert high - low < 0.05
    assert result["n"] == {"inside": 3000, "outside": 3000}
    found = norm.cdf(norm.ppf(0.05) + shift)
    assert result["found_at_5_percent_false_alarms"] == pytest.approx(found, abs=0.03)
    assert float(metric.aggregate()) == result["value"]


def test_a_curve_rises_from_0_to_1_and_ties_count_half():
    alarms, found = roc_curve(np.array([0.0, 1.0]), np.array([1.0, 2.0]))
    np.testing.assert_allclose(alarms, [0, 0, 0.5, 1])
    np.testing.assert_allclose(found, [0, 0.5, 1, 1])
    assert roc_auc(np.array([0.0, 1.0]), np.array([1.0, 2.0])) == pytest.approx(0.875)
    rng = np.random.default_rng(0)
    inside, outside = rng.integers(0, 20, 60), rng.integers(5, 25, 40)
    scores, truth = np.concatenate([inside, outside]), np.repeat([0, 1], [60, 40])
    assert roc_auc(inside, outside) == pytest.approx(roc_auc_score(truth, scores))
    alarms, found = roc_curve(rng.normal(size=500), rng.normal(1, 1, size=400))
    assert len(alarms) <= 101
    assert (alarms[0], found[0], alarms[-1], found[-1]) == (0, 0, 1, 1)
    assert (np.diff(alarms) >= 0).all()
    assert (np.diff(found) >= 0).all()
    assert trapezoid(found, alarms) == pytest.approx(norm.cdf(1 / math.sqrt(2)), abs=0.03)


def test_other_sets_are_passed_over_and_an_empty_one_is_named(tmp_path):
    metrics = score_metrics(["held out", "a", "b"], dimensions=4, resamples=10)
    assert [m.label for m in metrics.values()][-2:] == ["ood_auc[a, bound]", "ood_auc[b, bound]"]
    terms = torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [-1.0, -1.0, -1.0], [0.5, 0.5, 0.5]])
    for metric in metrics.values():
        metric(terms, torch.tensor([0, 1, 2, 0]))
    assert float(metrics["ood_a_bound"].aggregate()) == 1
    assert float(metrics["ood_b_bound"].aggregate()) == 0
    assert float(metrics["bound_nats"].aggregate()) == 0.75
    RocFigure(metrics, tmp_path)(SimpleNamespace())
    assert imread(tmp_path / "roc.png").ndim == 3
    empty = OutOfDistributionROC(3, "none")
    empty(terms, torch.tensor([0, 1, 2, 0]))
    with pytest.raises(ValueError, match=r"ood_auc\[none, bound\].*got 2 and 0"):
        empty.report()


def test_controls_stand_beside_the_terms_and_have_curves_of_their_own():
    images = torch.zeros(4, 1, 16, 16)
    images[1:3] = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    inferer = ControlledInferer(
        lambda inputs, network: torch.tensor([[9.0, 0.0, 0.0]]).expand(len(inputs), 3),
        {"mean": lambda x: x.flatten(1).mean(1), "PNG bits": png_bits},
    )
    terms = inferer(images, None)
    assert terms.shape == (4, 5)
    torch.testing.assert_close(terms[:, 3], images.double().flatten(1).mean(1), rtol=1e-5, atol=1e-6)
    assert (terms[1:3, 4] > 2 * terms[0, 4]).all(), "noise takes more bits than nothing"
    metrics = score_metrics(["plain", "noise"], 256, controls=["mean", "PNG bits"], resamples=10)
    for metric in metrics.values():
        metric(terms, torch.tensor([0, 1, 1, 0]))
    found = {m.label: float(m.aggregate()) for m in metrics.values() if m.label.startswith("ood")}
    assert found == {"ood_auc[noise, bound]": 0.5, "ood_auc[noise, mean]": 1, "ood_auc[noise, PNG bits]": 1}
    assert float(metrics["bound_nats"].aggregate()) == 9


def test_scores_are_written_least_likely_first(tmp_path):
    table = ScoreTable(tmp_path, dimensions=10)
    state = SimpleNamespace(
        batch=[{"case": "a", "class": "normal"}, {"case": "b"}],
        output=[{"pred": torch.tensor([1.0, 2.0, 3.0])}, {"pred": torch.tensor([4.0, 5.0, 6.0])}],
    )
    table.collect(SimpleNamespace(state=state))
    table(SimpleNamespace())
    with (tmp_path / "scores.csv").open() as file:
        first, second = csv.DictReader(file)
    assert (first["case"], first["class"], first["bound_nats"]) == ("b", "", "15.0")
    assert float(second["bits_per_dimension"]) == pytest.approx(6 / (10 * math.log(2)))


def test_copies_among_generated_images_are_counted():
    def textures(n: int, seed: int) -> torch.Tensor:
        noise = torch.randn(n, 1, 36, 36, generator=torch.Generator().manual_seed(seed))
        return torch.nn.functional.avg_pool2d(noise, 3, 1, 1).clamp(-1, 1)

    train, held_out, generated = textures(40, 1), textures(20, 2), textures(20, 3)
    generated[0] = train[7]
    metric = MemorisationMetric([{"image": image} for image in train])
    metric(generated, held_out)
    result = metric.report()
    assert result["copies"] == 1
    assert result["n"] == {"synthetic": 20, "train": 40, "held_out": 20}
    assert result["chance"] == pytest.approx(40 / 60)
    assert float(metric.aggregate()) == result["value"]
