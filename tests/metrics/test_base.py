"""What MONAI's users rely on: handlers and savers at their defaults, one column a case, clear words without data."""

from __future__ import annotations

import csv
import re

import pytest
import torch
from monai.engines import SupervisedEvaluator
from monai.handlers import IgniteMetricHandler, MetricsSaver, from_engine

from common.metrics.base import CaseMetric, FeatureSetMetric, SetMetric
from common.metrics.consistency import ClassAccuracy, MaskDice
from common.metrics.diversity import SetMSSSIM
from common.metrics.fidelity import FidelityMetric, MeanAbsoluteError, MeanSquaredError, PeakSignalToNoise
from common.metrics.frechet import FrechetDistanceMetric
from common.metrics.likelihood import BoundTerm, OutOfDistributionROC
from common.metrics.mmd import KernelDistanceMetric, MaximumMeanDiscrepancy
from common.metrics.neighbours import CoverageMetric
from common.metrics.perceptual import PerceptualDistance
from common.metrics.sharpness import Acutance, Grain
from common.metrics.ssim import PairedMSSSIM, StructuralSimilarity


class Quarters:
    """In place of a feature network: means of the four quarters of an image."""

    label = "quarters"

    def __call__(self, images):
        return torch.nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)

    def maps(self, images):
        return [images]

    def describe(self):
        return {"name": self.label}


class Bright:
    """In place of a segmenter: what is bright is the label."""

    divisor, device, describe = 1, "cpu", dict

    def network(self, x):
        return torch.cat([-x, x], dim=1)


PAIRED = {
    "mse": MeanSquaredError,
    "mae": MeanAbsoluteError,
    "psnr": PeakSignalToNoise,
    "ssim": StructuralSimilarity,
    "ms_ssim_paired": PairedMSSSIM,
    "ms_ssim": SetMSSSIM,
    "mmd": lambda: MaximumMeanDiscrepancy("linear"),
    "fid": lambda: FrechetDistanceMetric(Quarters()),
    "kid": lambda: KernelDistanceMetric(Quarters()),
    "coverage": lambda: CoverageMetric(Quarters(), k=1),
    "perceptual": lambda: PerceptualDistance(Quarters()),
    "acutance": lambda: Acutance(1.0, "real"),
    "grain": Grain,
    "mask_dice": lambda: MaskDice(Bright(), ["bright"]),
}
ALL = {
    **PAIRED,
    "accuracy": lambda: ClassAccuracy(torch.nn.Identity()),
    "bound": BoundTerm,
    "ood": lambda: OutOfDistributionROC(1, "other"),
}


def evaluated(tmp_path, metrics):
    """An evaluation by MONAI's handlers at their defaults: state, and the details and summaries that were saved."""
    generator = torch.Generator().manual_seed(0)
    real = torch.rand(6, 1, 32, 34, generator=generator) * 2 - 1
    cases = [{"image": 0.9 * image + 0.05, "label": image} for image in real]
    handlers = {
        name: IgniteMetricHandler(metric_fn=metric, output_transform=from_engine(["pred", "label"]), save_details=True)
        for name, metric in metrics.items()
    }
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=torch.utils.data.DataLoader(cases, batch_size=2),
        network=torch.nn.Identity(),
        key_val_metric=dict(list(handlers.items())[:1]),
        additional_metrics=dict(list(handlers.items())[1:]),
        val_handlers=[MetricsSaver(tmp_path, metrics="*", metric_details="*", summary_ops="*")],
    )
    evaluator.run()
    return evaluator.state


@pytest.mark.filterwarnings("ignore:.*singular", "ignore:Mean of empty", "ignore:All-NaN", "ignore:Degrees of freedom")
def test_monais_handlers_and_saver_read_every_metric(tmp_path):
    """One column a case, so that the mean over a case's columns and over cases is the metric."""
    state = evaluated(tmp_path, {name: make() for name, make in PAIRED.items()})
    for name, make in PAIRED.items():
        assert state.metric_details[name].shape == (6, 1), name
        with (tmp_path / f"{name}_summary.csv").open() as file:
            *_, total = csv.DictReader(file, delimiter=",")
        of_cases = float(total["mean"])
        if isinstance(make(), SetMetric):
            assert of_cases != of_cases, f"{name}: no value belongs to a single case"
        elif name != "psnr":
            assert of_cases == pytest.approx(state.metrics[name], abs=1e-4), name


@pytest.mark.parametrize("name", ALL)
def test_without_images_it_says_so(name):
    metric = ALL[name]()
    for ask in (metric.aggregate, *([metric.per_case] if isinstance(metric, CaseMetric) else [metric.report])):
        with pytest.raises(ValueError, match=re.escape(metric.label) + ": no images seen"):
            ask()


def test_both_similarities_count_intensities_from_the_same_zero():
    x = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    y = (0.8 * x + 0.1).clamp(-1, 1)
    one, several = StructuralSimilarity(), PairedMSSSIM()  # sides of 16 have one scale
    for metric in (one, several):
        metric(x, y)
    assert several.per_case().tolist() == pytest.approx(one.per_case().tolist(), rel=1e-12)


@pytest.mark.parametrize(
    ("base", "method"),
    [
        (CaseMetric, lambda metric: metric(torch.zeros(1, 1, 4, 4))),
        (SetMetric, lambda metric: (metric.keep(torch.zeros(1, 1, 4, 4)), metric.report())),
        (lambda: FeatureSetMetric(Quarters()), lambda metric: (metric(*torch.zeros(2, 1, 1, 4, 4)), metric.report())),
        (FidelityMetric, lambda metric: metric(*torch.zeros(2, 1, 1, 4, 4))),
    ],
)
def test_bases_name_what_a_subclass_must_have(base, method):
    with pytest.raises(NotImplementedError, match="must implement"):
        method(type("Own", (base,), {})() if isinstance(base, type) else base())


def test_set_metrics_keep_the_first_images_and_compute_once():
    class Count(SetMetric):
        asked = 0

        def _evaluate(self, generated, real):
            self.asked += 1
            return {"value": len(generated) + 10 * len(real)}

    metric = Count(max_images=3)
    metric(torch.zeros(5, 1, 4, 4), torch.zeros(2, 1, 4, 4))
    assert float(metric.aggregate()) == metric.report()["value"] == 23
    assert metric.asked == 1
    metric.keep(real=torch.zeros(1, 1, 4, 4))
    assert float(metric.aggregate()) == 33
