from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from common.evaluation import observer
from common.evaluation.observer import MachineObserverMetric, forced_choice, machine_observer
from common.features.features import FeatureNetwork
from tests.metrics.test_neighbours import network


def gaussians(n: int, m: int, shift: float = 0.0, d: int = 8, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator) + shift, torch.randn(m, d, generator=generator)


def table(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_readers_answers_with_exact_intervals(tmp_path):
    lines = [f"{reader},{int(i < right)}" for reader, right in (("ann", 32), ("ben", 25)) for i in range(50)]
    result = forced_choice(table(tmp_path / "answers.csv", "reader,correct\n" + "\n".join(lines) + "\n"))
    assert {name: entry["value"] for name, entry in result["readers"].items()} == {"ann": 0.64, "ben": 0.5}
    # 32 of 50, the 64 % of the paper: Clopper-Pearson as tables give it.
    assert result["readers"]["ann"]["interval95"] == pytest.approx([0.4919, 0.7708], abs=1e-4)
    assert result["readers"]["ann"]["p_value"] == pytest.approx(0.0325, abs=1e-4)
    assert (result["pooled"]["correct"], result["pooled"]["n"]) == (57, 100)
    assert result["mean_of_readers"] == pytest.approx(0.57)


def test_answer_and_truth_or_words_do_as_well(tmp_path):
    by_sides = "pair, answer, truth\n1, Left, left\n2, right, left\n3, left, left\n"
    result = forced_choice(table(tmp_path / "sides.csv", by_sides))
    assert (result["pooled"]["correct"], list(result["readers"])) == (2, [""])
    words = forced_choice(table(tmp_path / "words.csv", "\ufeffcorrect\nyes\nTRUE\n0\n"))
    assert (words["pooled"]["correct"], words["pooled"]["n"]) == (2, 3)


def test_run_prints_and_writes_what_was_found(tmp_path, capsys):
    answers = table(tmp_path / "answers.csv", "reader,correct\n" + "ann,1\n" * 30 + "ben,1\n" * 10 + "ben,0\n" * 10)
    assert observer.run(answers, tmp_path / "out") == 0
    text = (tmp_path / "out" / "observer.md").read_text()
    assert capsys.readouterr().out == text
    assert "| ben | 50.0% | 27.2% to 72.8% | 10 of 20 |" in text
    assert "| pooled | 80.0% |" in text
    assert "Mean of the readers: 75.0%. Pooled, they tell real images better than by guessing" in text
    assert json.loads((tmp_path / "out" / "observer.json").read_text())["pooled"]["correct"] == 40


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("reader,right\nann,1\n", r"answers.csv: a column correct, or answer and truth"),
        ("", "a column correct"),
        ("correct\n", "holds no answers"),
        ("correct\n1\n2\n", r"answers.csv, line 3: correct must be 1 or 0, got '2'"),
        ("reader,correct\nann,1\n,1\n", "line 3: no reader"),
        ("reader,correct\nann\n", "line 2: correct must be 1 or 0"),
        ("answer,truth\nleft,\n", "line 2: answer or truth is missing"),
    ],
)
def test_bad_tables_are_named_with_the_line(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        forced_choice(table(tmp_path / "answers.csv", text))
    with pytest.raises(FileNotFoundError):
        forced_choice(tmp_path / "missing.csv")


def test_equal_distributions_are_not_told_apart_and_shifted_ones_are():
    equal = [machine_observer(*gaussians(60, 60, seed=seed), resamples=100) for seed in range(20)]
    assert np.mean([result["value"] for result in equal]) == pytest.approx(0.5, abs=0.04)
    assert sum(low <= 0.5 <= high for low, high in (result["interval95"] for result in equal)) >= 16
    assert sum(result["pairs"]["p_value"] < 0.05 for result in equal) <= 3
    apart = machine_observer(*gaussians(60, 60, 3.0), resamples=100)
    assert apart["value"] > 0.999
    assert apart["pairs"]["value"] == 1
    assert apart["pairs"]["n"] == 60
    assert apart["interval95"][0] > 0.99


def test_value_approaches_what_gaussians_allow():
    # The best observer of two Gaussians at distance 1 has the area Phi(1 / sqrt 2) = 0.760.
    real, fake = gaussians(1500, 1500, 1 / 8**0.5)
    result = machine_observer(real, fake, resamples=50)
    assert result["value"] == pytest.approx(0.760, abs=0.02)
    low, high = result["interval95"]
    assert low < 0.760 < high


def test_area_within_one_fold_is_sklearns():
    rng = np.random.default_rng(0)
    scores, kind = rng.integers(0, 9, 50).astype(float), rng.random(50) < 0.4
    value, interval = observer._area(scores, kind, np.zeros(50), 0, 20)
    assert value == pytest.approx(roc_auc_score(kind, scores))
    assert interval[0] < value < interval[1]


def test_nothing_leaks_more_features_than_images_and_groups_across_folds():
    # Features of pure noise, far more than images: whoever fits on the test images tells them apart.
    values = [machine_observer(*gaussians(30, 30, d=400, seed=seed), resamples=2)["value"] for seed in range(10)]
    assert np.mean(values) == pytest.approx(0.5, abs=0.07)
    # Six near-equal images a patient, each patient of one kind: only folds of whole patients see that nothing is there.
    centres = gaussians(10, 10, d=50, seed=1)
    noise = gaussians(60, 60, d=50, seed=2)
    real, fake = (c.repeat_interleave(6, 0) + 0.05 * n for c, n in zip(centres, noise))
    patients = ([i // 6 for i in range(60)], [100 + i // 6 for i in range(60)])
    assert machine_observer(real, fake, resamples=2)["value"] > 0.95
    by_patient = machine_observer(real, fake, groups=patients, resamples=2)
    assert by_patient["value"] < 0.8
    assert by_patient["groups"] == 20


def test_scaling_is_that_of_the_other_folds():
    real, fake = (s.double().numpy() for s in gaussians(20, 20, 1.0))
    x, y = np.concatenate([real, fake]), np.arange(40) < 20
    alone = observer._fitted_scores(x, y, x[:1] + 3, 8.0)
    with_outliers = observer._fitted_scores(x, y, np.concatenate([x[:1] + 3, 1000 * x[1:9]]), 8.0)
    assert alone[0] == pytest.approx(with_outliers[0], rel=1e-12)


def test_folds_hold_whole_groups_and_both_kinds_evenly():
    rng = np.random.default_rng(0)
    groups = [i // 3 for i in range(90)] + [i // 2 for i in range(60)]
    kind = np.arange(150) < 90
    fold = observer._folds(groups, kind, 5, rng)
    assert all(len(set(fold[np.array(groups) == g])) == 1 for g in set(groups))
    for number in range(5):
        assert 15 <= (kind & (fold == number)).sum() <= 21
        assert 9 <= (~kind & (fold == number)).sum() <= 15


def test_same_seed_same_result_and_constant_features_are_a_coin():
    assert machine_observer(*gaussians(30, 20)) == machine_observer(*gaussians(30, 20))
    result = machine_observer(torch.ones(40, 3), torch.ones(40, 3), resamples=20)
    assert result["value"] == 0.5
    assert 8 < result["pairs"]["correct"] < 32


def test_metric_equals_the_function():
    generator = torch.Generator().manual_seed(3)
    fake, real = torch.rand(20, 1, 4, 4, generator=generator), 0.9 * torch.rand(20, 1, 4, 4, generator=generator)
    metric = MachineObserverMetric(network(), folds=4)
    for rows in (slice(0, 7), slice(7, 20)):
        metric(fake[rows], real[rows])
    expected = machine_observer(real.flatten(1)[:, :4], fake.flatten(1)[:, :4], folds=4)
    report = metric.report()
    assert metric.label == "machine_2afc[first_four]"
    assert {key: report[key] for key in expected} == expected
    assert report["n"] == {"generated": 20, "real": 20}


def test_bad_input():
    with pytest.raises(ValueError, match="At least 10 real and 10 generated"):
        machine_observer(*gaussians(9, 30))
    with pytest.raises(ValueError, match="At least 2 folds"):
        machine_observer(*gaussians(30, 30), folds=1)
    with pytest.raises(ValueError, match="NaN"):
        machine_observer(gaussians(30, 30)[0] / 0, gaussians(30, 30)[1])
    with pytest.raises(ValueError, match="One group an image"):
        machine_observer(*gaussians(30, 30), groups=([1] * 30, [2] * 29))
    with pytest.raises(ValueError, match="5 folds of 2 groups"):
        machine_observer(*gaussians(30, 30), groups=([1] * 30, [2] * 30))


def mean_and_deviation():
    class Moments(nn.Module):
        def forward(self, images):
            flat = images.flatten(1)
            return torch.stack([flat.mean(1), flat.std(1), flat[:, 0]], dim=1)

    return Moments()


@pytest.mark.parametrize(("change", "low", "high"), [(0.0, 0.5, 0.5), (0.8, 0.9, 1.0)])
def test_paired_observer_is_undecided_about_equal_images_and_sees_a_change(change, low, high):
    real = torch.rand(30, 1, 6, 6, generator=torch.Generator().manual_seed(0)) - 0.9
    metric = MachineObserverMetric(FeatureNetwork(f"{__name__}:mean_and_deviation"), paired=True)
    metric((real + change).clamp(-1, 1), real)
    result = metric.report()
    assert result["groups"] == 30
    assert low <= result["value"] <= high
