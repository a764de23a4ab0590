from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.metrics import MMDMetric
from skimage import io
from sklearn.metrics.pairwise import rbf_kernel as sklearn_rbf

from common.evaluation.report import MetricsReport
from common.metrics.kernels import cubic_kernel, linear_kernel, median_bandwidth, rbf_kernel, squared_distances
from common.metrics.mmd import (
    KernelDistanceMetric,
    MaximumMeanDiscrepancy,
    kid,
    mmd2_linear_time,
    mmd2_unbiased,
)
from tests.fixtures import real_data
from tests.metrics.test_base import Quarters


def sets(n: int = 6, m: int = 5, d: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, d, generator=generator), torch.randn(m, d, generator=generator) + 0.4


class Pixels:
    """A feature network whose features are the pixels."""

    label, describe = "pixels", dict

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)


def double_loop(x, y, k) -> float:
    n, m = len(x), len(y)
    total = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    total += sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return total - 2 * sum(k(a, b) for a in x for b in y) / (n * m)


def gauss(a, b) -> float:
    return np.exp(-np.sum((a - b) ** 2) / (2 * 1.7**2))


def mmd2_of_gaussians(shift: float, d: int, bandwidth: float) -> float:
    """MMD^2 between N(0, I) and N(shift, I) in d dimensions under the Gaussian kernel, in closed form."""
    scale = (bandwidth**2 / (bandwidth**2 + 2)) ** (d / 2)
    return 2 * scale * (1 - np.exp(-d * shift**2 / (2 * (bandwidth**2 + 2))))


def test_all_kernels_agree_with_a_double_loop():
    x, y = (v.double().numpy() for v in sets())
    tx, ty = sets()
    assert mmd2_unbiased(tx, ty, linear_kernel)[0] == pytest.approx(double_loop(x, y, np.dot), rel=1e-10)
    assert mmd2_unbiased(tx, ty, rbf_kernel(1.7))[0] == pytest.approx(double_loop(x, y, gauss), rel=1e-10)
    assert kid(tx, ty) == pytest.approx(double_loop(x, y, lambda a, b: (a @ b / 7 + 1) ** 3), rel=1e-10)


def test_kid_of_one_distribution_is_zero_on_average():
    generators = [torch.Generator().manual_seed(seed) for seed in range(300)]
    values = [kid(torch.randn(6, 4, generator=g), torch.randn(6, 4, generator=g)) for g in generators]
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(300)
    assert min(values) < 0


def test_kid_of_pairs_leaves_out_the_pairs_and_is_zero_for_a_set_with_itself():
    unpaired, paired = [], []
    for seed in range(300):
        g = torch.Generator().manual_seed(seed)
        x, other = torch.randn(8, 4, generator=g), torch.randn(8, 4, generator=g)
        y = 0.9 * x + (1 - 0.9**2) ** 0.5 * other  # of the same distribution, and each y_i alike its x_i
        unpaired.append(kid(x, y))
        paired.append(mmd2_unbiased(x, y, cubic_kernel, paired=True)[0])
    assert abs(np.mean(paired)) < 4 * np.std(paired) / np.sqrt(300)
    assert np.mean(unpaired) < -10 * np.std(unpaired) / np.sqrt(300)
    assert mmd2_unbiased(x, x, cubic_kernel, 0, 50, paired=True) == (0.0, [0.0, 0.0])
    with pytest.raises(ValueError, match="Pairs were expected, got 8 and 7 images"):
        mmd2_unbiased(x, y[:7], cubic_kernel, paired=True)


def test_the_metric_keeps_pairs_together_in_whatever_order_they_are_seen():
    x, y = (images.reshape(7, 1, 1, 7) for images in sets(7, 7))
    values = []
    for order in (torch.arange(7), torch.randperm(7, generator=torch.Generator().manual_seed(1))):
        metric = KernelDistanceMetric(Pixels(), resamples=20, paired=True)
        metric(x[order[:3]], y[order[:3]])
        metric(x[order[3:]], y[order[3:]])
        values.append(metric.report())
    assert values[0]["value"] == pytest.approx(values[1]["value"], rel=1e-12)
    assert values[0]["interval95"] == pytest.approx(values[1]["interval95"], rel=1e-9)
    expected = mmd2_unbiased(x.flatten(1), y.flatten(1), cubic_kernel, paired=True)[0]
    assert values[0]["value"] == pytest.approx(expected, rel=1e-12)


def test_linear_time_agrees_with_a_loop_over_pairs():
    tx, ty = sets(9, 7)
    x, y = tx.double().numpy(), ty.double().numpy()
    for kernel, k in ((linear_kernel, np.dot), (rbf_kernel(1.7), gauss)):
        terms = [k(x[i], x[i + 1]) + k(y[i], y[i + 1]) - k(x[i], y[i + 1]) - k(x[i + 1], y[i]) for i in (0, 2, 4)]
        value, interval = mmd2_linear_time(tx, ty, kernel)
        assert value == pytest.approx(np.mean(terms), rel=1e-10)
        half = 1.959964 * np.std(terms, ddof=1) / np.sqrt(3)
        assert interval == pytest.approx([np.mean(terms) - half, np.mean(terms) + half], rel=1e-5)
    assert mmd2_linear_time(tx[:3], ty, linear_kernel)[1] is None


def test_gaussian_kernel_agrees_with_sklearn():
    x, y = (v.double() for v in sets())
    np.testing.assert_allclose(rbf_kernel(1.3)(x, y), sklearn_rbf(x, y, gamma=1 / (2 * 1.3**2)), rtol=1e-10)


def test_agrees_with_sklearn_on_real_images():
    folder = real_data("chest_xray") / "train"
    x, y = (
        torch.stack(
            [torch.from_numpy(io.imread(f)[::4, ::4]).float().flatten() / 127.5 - 1 for f in sorted(files)[:12]]
        )
        for files in ((folder / "normal").glob("*.jpeg"), (folder / "virus").glob("*.jpeg"))
    )
    bandwidth = median_bandwidth(x, y)
    distances = torch.pdist(torch.cat([x, y]).double())
    assert bandwidth == pytest.approx(float(distances.median()), rel=1e-10)
    a, b = x.double().numpy(), y.double().numpy()
    k_xx, k_yy, k_xy = (sklearn_rbf(p, q, gamma=1 / (2 * bandwidth**2)) for p, q in ((a, a), (b, b), (a, b)))
    expected = (k_xx.sum() - 12) / 132 + (k_yy.sum() - 12) / 132 - 2 * k_xy.mean()
    assert mmd2_unbiased(x, y, rbf_kernel(bandwidth))[0] == pytest.approx(expected, rel=1e-9)


def test_distances_of_equal_rows_are_exactly_zero_far_from_the_origin():
    x = sets()[0].double() + 1000
    found = squared_distances(x, x.flip(0))
    assert found.diagonal().shape == (6,)
    assert found.fliplr().diagonal().tolist() == [0] * 6
    np.testing.assert_allclose(found, torch.cdist(x, x.flip(0)) ** 2, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_both_estimates_of_two_gaussians_have_the_mean_of_the_closed_form(shift):
    """And their intervals hold it as often as they should, over 50 pairs of sets."""
    generator = torch.Generator().manual_seed(3)
    truth, kernel, values, holds = mmd2_of_gaussians(shift, 4, 2.0), rbf_kernel(2.0), [], []
    for _ in range(50):
        x, y = torch.randn(80, 4, generator=generator), torch.randn(80, 4, generator=generator) + shift
        found = mmd2_unbiased(x, y, kernel, resamples=60), mmd2_linear_time(x, y, kernel)
        values.append([value for value, _ in found])
        holds.append([low < truth < high for _, (low, high) in found])
    error = np.std(values, axis=0) / np.sqrt(50)
    assert (np.abs(np.mean(values, axis=0) - truth) < 3 * error).all()
    assert error[0] < 0.5 * error[1]
    assert (np.mean(holds, axis=0) >= 0.86).all()


def test_bootstrap_is_centred_and_as_wide_as_repetition():
    """The mean width over repeated draws is that of the estimates themselves."""
    generator = torch.Generator().manual_seed(0)
    kernel, values, widths, offsets = rbf_kernel(1.5), [], [], []
    for _ in range(60):
        x, y = torch.randn(40, 3, generator=generator), torch.randn(30, 3, generator=generator) + 1
        value, (low, high) = mmd2_unbiased(x, y, kernel, resamples=100)
        values.append(value)
        widths.append(high - low)
        offsets.append((low + high) / 2 - values[-1])
    assert np.mean(widths) == pytest.approx(2 * 1.96 * np.std(values), rel=0.3)
    assert abs(np.mean(offsets)) < 0.1 * np.mean(widths)


def test_intervals_are_seeded_and_need_three_images():
    x, y = sets()
    assert mmd2_unbiased(x, y, linear_kernel, 1, 50) == mmd2_unbiased(x, y, linear_kernel, 1, 50)
    assert mmd2_unbiased(x, y, linear_kernel, 1, 50)[1] != mmd2_unbiased(x, y, linear_kernel, 2, 50)[1]
    assert mmd2_unbiased(x[:2], y, linear_kernel, 1, 50)[1] is None


def test_linear_metric_is_monais_for_volumes_of_one_size():
    generator = torch.Generator().manual_seed(1)
    fake, real = (torch.rand(4, 1, 5, 6, 4, generator=generator) for _ in range(2))
    metric = MaximumMeanDiscrepancy("linear")
    for f, r in zip(fake, real):
        metric([f], [r])
    assert float(metric.aggregate()) == pytest.approx(float(MMDMetric()(real.double(), fake.double())), rel=1e-6)


def test_volumes_of_different_sizes_are_cropped_at_their_centres():
    generator = torch.Generator().manual_seed(2)
    core = torch.rand(4, 1, 5, 6, 4, generator=generator)
    padded = torch.nn.functional.pad(core, (1, 1, 2, 2, 1, 1), value=9.0)
    plain, mixed = MaximumMeanDiscrepancy(), MaximumMeanDiscrepancy()
    plain(list(core[:2]), list(core[2:]))
    mixed([core[0], padded[1]], [padded[2], core[3]])
    assert mixed.report()["value"] == pytest.approx(plain.report()["value"])
    assert mixed.report()["bandwidth"] == pytest.approx(plain.report()["bandwidth"])
    assert mixed.report()["size"] == [5, 6, 4]


@pytest.mark.parametrize("estimator", ["unbiased", "linear_time"])
def test_order_of_the_images_does_not_matter(estimator):
    x, y = torch.rand(9, 1, 4, 4, 4), torch.rand(9, 1, 4, 4, 4) + 0.2
    one, other = (MaximumMeanDiscrepancy(estimator=estimator, seed=5) for _ in range(2))
    one(x, y)
    other(x[4:], y[2:])
    other(x[:4], y[:2])
    assert other.report()["value"] == pytest.approx(one.report()["value"])
    assert other.report()["interval95"] == pytest.approx(one.report()["interval95"])


def test_on_features(tmp_path):
    generator = torch.Generator().manual_seed(4)
    x, y = torch.rand(8, 1, 6, 8, generator=generator), torch.rand(7, 1, 6, 8, generator=generator)
    metric = MaximumMeanDiscrepancy(features=Quarters(), max_images=3)
    metric(x[:5], y[:4])
    metric(list(x[5:]), list(y[4:]))
    entry = MetricsReport({"mmd": metric}, tmp_path).collect()["metrics"]["mmd[rbf, quarters]"]
    a, b = Quarters()(x), Quarters()(y)
    assert entry["n"] == {"generated": 8, "real": 7}
    assert entry["bandwidth"] == pytest.approx(median_bandwidth(a, b))
    assert entry["value"] == pytest.approx(mmd2_unbiased(a, b, rbf_kernel(entry["bandwidth"]))[0])
    assert entry["interval95"][0] < entry["value"] < entry["interval95"][1]
    assert entry["features"] == {"name": "quarters"}
    assert MaximumMeanDiscrepancy("linear", estimator="linear_time").label == "mmd[linear, linear time]"


def test_median_heuristic():
    points = torch.tensor([[0.0], [1.0], [3.0]])
    assert median_bandwidth(points[:1], points[1:]) == pytest.approx(2)
    with pytest.raises(ValueError, match="give a bandwidth"):
        median_bandwidth(torch.ones(2, 3), torch.ones(2, 3))


def test_median_of_a_large_set_is_that_of_a_seeded_part():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(1500, 5, generator=generator) for _ in range(2))
    whole, part = float(torch.pdist(torch.cat([x, y])).median()), median_bandwidth(x, y, max_rows=300)
    assert part == median_bandwidth(x, y, max_rows=300) != median_bandwidth(x, y, max_rows=300, seed=1)
    assert part == pytest.approx(whole, rel=0.03)


def test_bad_input():
    x, y = sets()
    for function in (mmd2_unbiased, mmd2_linear_time):
        with pytest.raises(ValueError, match="At least 2 real and 2 generated"):
            function(x[:1], y, linear_kernel)
        with pytest.raises(ValueError, match="NaN"):
            function(x * float("nan"), y, linear_kernel)
        with pytest.raises(ValueError, match="one length"):
            function(x, y[:, :3], linear_kernel)
    with pytest.raises(ValueError, match="kernel must be"):
        MaximumMeanDiscrepancy("poly")
    with pytest.raises(ValueError, match="estimator must be"):
        MaximumMeanDiscrepancy(estimator="biased")
    with pytest.raises(ValueError, match="bandwidth must be"):
        MaximumMeanDiscrepancy(bandwidth=0)


def test_mixed_sets_are_refused():
    grey, colour, volume = torch.rand(2, 1, 8, 8), torch.rand(2, 3, 8, 8), torch.rand(2, 1, 8, 8, 8)
    for other in (colour, volume):
        metric = MaximumMeanDiscrepancy()
        metric(grey, other)
        with pytest.raises(ValueError, match="one number of channels and dimensions"):
            metric.report()
    metric = MaximumMeanDiscrepancy()
    metric(grey[:1], grey)
    with pytest.raises(ValueError, match="got 1 and 2"):
        metric.report()
