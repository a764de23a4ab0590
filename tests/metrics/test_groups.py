"""Metrics of whole sets where several cases are of one subject: whole subjects are drawn and left out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.handlers import from_engine

from common.evaluation.observer import MachineObserverMetric, machine_observer
from common.evaluation.report_handler import MetricHandler
from common.evaluation.results import result_of
from common.metrics.consistency import ClassAccuracy
from common.metrics.diversity import SetMSSSIM, interval_over_images
from common.metrics.frechet import FrechetDistanceMetric
from common.metrics.intervals import binomial_interval, bootstrap_interval, subsampling_interval
from common.metrics.kernels import cubic_kernel
from common.metrics.likelihood import OutOfDistributionROC
from common.metrics.mmd import KernelDistanceMetric, MaximumMeanDiscrepancy, mmd2_unbiased
from common.metrics.neighbours import CoverageMetric
from common.metrics.pairs import PairSums
from tests.metrics.test_base import Quarters

SUBJECTS = [name for name in "abcdefghijklmnopqrst" for _ in range(5)]


def images(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Generated and real ones, (100, 1, 16, 16); the five of a subject are nearly the same."""
    generator = torch.Generator().manual_seed(seed)
    real = torch.randn(20, 1, 16, 16, generator=generator).repeat_interleave(5, 0)
    noise = torch.randn(2, 100, 1, 16, 16, generator=generator)
    return (0.1 * (real + 0.4 * noise[0]) + 0.02).clamp(-1, 1), (0.1 * (real + 0.4 * noise[1])).clamp(-1, 1)


METRICS = {
    "fid": lambda: FrechetDistanceMetric(Quarters()),
    "kid": lambda: KernelDistanceMetric(Quarters()),
    "kid of pairs": lambda: KernelDistanceMetric(Quarters(), paired=True),
    "mmd": lambda: MaximumMeanDiscrepancy("rbf"),
    "recall": lambda: CoverageMetric(Quarters(), "recall"),
    "ms_ssim": SetMSSSIM,
}


def measured(name: str, groups: list[str] | None, order: list[int] | None = None) -> dict:
    metric, (generated, real) = METRICS[name](), images()
    for i in order or range(100):
        if groups is not None:
            metric.note_groups([groups[i]])
        metric(generated[i : i + 1], real[i : i + 1])
    return metric.report()


@pytest.mark.parametrize("name", METRICS)
def test_intervals_are_those_of_subjects_where_several_cases_are_of_one(name):
    alone, together = measured(name, None), measured(name, SUBJECTS)
    assert together["value"] == pytest.approx(alone["value"])
    assert together["interval95"] != alone["interval95"]
    assert together["interval95"][0] < together["value"] < together["interval95"][1]
    if name == "fid":  # in the others, the noise of the images is not that of their subjects
        assert np.ptp(together["interval95"]) > 1.2 * np.ptp(alone["interval95"])


def test_sums_over_pairs_are_those_of_copies_written_out():
    rng = np.random.default_rng(0)
    groups, others, times = np.array([0, 1, 1, 2, 0, 2, 2]), np.array([2, 0, 1, 1, 0, 2, 1]), np.array([2, 0, 3])
    for columns, without_own in ((groups, True), (groups, False), (others, False)):
        values = rng.normal(size=(7, 7))
        copies = [[(i, g, copy) for i, g in enumerate(side) for copy in range(times[g])] for side in (groups, columns)]
        kept = [
            values[i, j]
            for i, g, first in copies[0]
            for j, h, second in copies[1]
            if (g != h or first == second) and not (without_own and i == j)
        ]
        total, number = PairSums(values, groups, columns, without_own).total(times)
        assert (total, number) == (pytest.approx(sum(kept)), len(kept))


@pytest.mark.parametrize("name", METRICS)
def test_the_order_of_cases_changes_nothing(name):
    order = np.random.default_rng(1).permutation(100).tolist()
    assert measured(name, SUBJECTS, order)["interval95"] == pytest.approx(
        measured(name, SUBJECTS)["interval95"], rel=0.2
    )


@pytest.mark.parametrize("name", [name for name in METRICS if name != "fid"])
def test_groups_of_one_case_each_are_cases(name):
    assert measured(name, [str(i) for i in range(100)])["interval95"] == measured(name, None)["interval95"]


def test_images_without_a_pair_are_no_hindrance():
    groups = ["a", "a", "b", "b", "c", "c"]
    assert interval_over_images([(0, 1), (1, 2), (2, 3)], [0.9, 0.5, 0.8], 0, groups)[0] >= 0.5


def test_a_part_of_the_jackknife_of_fid_holds_whole_subjects():
    metric = METRICS["fid"]()
    metric.note_groups(SUBJECTS)
    metric(*images())
    sizes = [part.n for part in metric._statistics[1]]
    assert sum(sizes) == 100
    assert all(size % 5 == 0 for size in sizes)
    assert "cases of one group together" in metric.report()["interval_by"]


def test_a_fold_of_the_observer_holds_whole_subjects():
    metric = MachineObserverMetric(Quarters(), paired=True)
    metric.note_groups(SUBJECTS)
    generated, real = images()
    metric(generated, real)
    features = [Quarters()(side) for side in (real, generated)]
    expected = machine_observer(*features, groups=(SUBJECTS, SUBJECTS))
    assert metric.report()["value"] == expected["value"]
    assert metric.report()["groups"] == 20


def test_an_image_and_its_own_version_are_drawn_together():
    generator = torch.Generator().manual_seed(0)
    real, noise = torch.randn(2, 100, 4, generator=generator)
    sides = real, 0.95 * real + 0.3 * noise + 0.2
    together, singly = (machine_observer(*sides, groups=groups) for groups in ((range(100), range(100)), None))
    assert np.ptp(together["interval95"]) < 0.6 * np.ptp(singly["interval95"])  # both score alike, so 0.5 is told well


def test_subjects_are_drawn_for_both_sets_at_once():
    generated, real = (Quarters()(side).double() for side in images())
    value, interval = mmd2_unbiased(generated, generated, cubic_kernel, 0, 50, True, (SUBJECTS, SUBJECTS))
    assert (value, interval) == (0.0, [0.0, 0.0])
    order = torch.arange(99, -1, -1)
    swapped = generated[order], [SUBJECTS[i] for i in order]
    first = mmd2_unbiased(generated, real, cubic_kernel, 0, 50, groups=(SUBJECTS, SUBJECTS))
    second = mmd2_unbiased(swapped[0], real, cubic_kernel, 0, 50, groups=(swapped[1], SUBJECTS))
    assert first[1] == pytest.approx(second[1])


def test_few_subjects_cost_the_interval_and_not_the_value():
    generated, real = (side[:20] for side in images())
    for subjects in (["a"] * 20, ["a", "b"] + ["c"] * 18):
        for name in ("recall", "kid", "fid", "ms_ssim"):
            metric = METRICS[name]()
            metric.note_groups(subjects)
            metric(generated, real)
            found = metric.report()
            assert found["value"] is not None
            assert found["interval95"] is None or len(set(subjects)) > 1
    metric = ClassAccuracy(lambda x: torch.zeros(len(x), 2))
    metric(generated, torch.zeros(20))
    assert result_of(metric, metric.per_case().numpy(), clusters=np.array(["a"] * 20))["interval95"] is None


def test_parts_hold_whole_clusters():
    seen = []
    values = np.repeat(np.arange(20), 5)

    def statistic(part: np.ndarray) -> float:
        seen.append(np.bincount(part, minlength=20))
        return float(part.mean())

    subsampling_interval(statistic, [values], 9.5, draws=3, clusters=[SUBJECTS])
    assert all(set(counts) == {0, 5} and counts.sum() == 50 for counts in seen)


def test_the_accuracy_of_subjects_has_no_interval_of_independent_images():
    metric = ClassAccuracy(lambda x: torch.stack([-x.mean((1, 2, 3)), x.mean((1, 2, 3))], 1))
    right = torch.tensor([number % 2 for number in range(20) for _ in range(5)])  # of all five of a subject, or of none
    metric(torch.full((100, 1, 4, 4), 0.5), right)
    values, subjects = metric.per_case().numpy(), np.array(SUBJECTS)
    alone, together = result_of(metric, values), result_of(metric, values, clusters=subjects)
    assert together["value"] == alone["value"] == 0.5
    assert together["interval95"] == bootstrap_interval(values, clusters=SUBJECTS)
    assert np.ptp(together["interval95"]) > 1.5 * np.ptp(alone["interval95"])
    metric.reset()
    metric(torch.full((100, 1, 4, 4), 0.5), torch.ones(100))
    certain = result_of(metric, metric.per_case().numpy(), clusters=subjects)
    assert certain["interval95"] == [binomial_interval(100, 100)[0], 1.0]


@pytest.mark.parametrize("same", [True, False])
def test_the_area_of_scores_of_patients_is_drawn_by_patient(same):
    """The images of a patient score alike; the other set has other patients, or the same ones changed."""
    rng = np.random.default_rng(0)
    patients, others = (np.repeat(rng.normal(size=20), 5) + 0.1 * rng.normal(size=100) for _ in range(2))
    inside, outside = patients, (patients if same else others) + 0.3
    found = []
    for told in (True, False):
        metric = OutOfDistributionROC(1, "other")
        for number, scores in enumerate((inside, outside)):
            if told:
                metric.note_groups([name + "x" * (number and not same) for name in SUBJECTS])
            metric(torch.from_numpy(np.stack([scores] + [np.zeros(100)] * 2, 1)), torch.full((100,), number))
        found.append(metric.report())
    assert found[0]["value"] == found[1]["value"]
    by_patient, by_image = (np.ptp(one["interval95"]) for one in found)
    assert by_patient < 0.8 * by_image if same else by_patient > 1.5 * by_image


@pytest.mark.parametrize("groups", ["shared", "own", "none"])
def test_handlers_give_metrics_the_groups_of_the_cases(groups):
    generated, real = images()
    names = {"shared": SUBJECTS, "own": [str(i) for i in range(100)], "none": [None] * 100}[groups]
    cases = [{"pred": p, "label": y, **({} if n is None else {"group": n})} for p, y, n in zip(generated, real, names)]

    def step(engine: Engine, batch: list[dict]) -> list[dict]:
        return batch

    engine = Engine(step)
    engine.data_loader = torch.utils.data.DataLoader(_Cases(cases), batch_size=3, collate_fn=list)
    metric = METRICS["kid of pairs"]()
    MetricHandler(metric_fn=metric, output_transform=from_engine(["pred", "label"])).attach(engine, "kid")
    engine.run(engine.data_loader)
    assert (
        metric.report()["interval95"]
        == measured("kid of pairs", SUBJECTS if groups == "shared" else None)["interval95"]
    )


class _Cases(torch.utils.data.Dataset):
    def __init__(self, data: list[dict]) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict:
        return self.data[index]
