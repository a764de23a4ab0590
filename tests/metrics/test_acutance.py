from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage import io

from common.evaluation.report import MetricsReport
from common.metrics.acutance import Acutance, acutance
from tests.fixtures import real_data


def images(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_a_ramp_from_side_to_side_is_higgins_and_jones_edge():
    """Gradient 2 / 15 mm everywhere, contrast 2: G^2 / contrast = 2 / 15^2."""
    ramp = torch.linspace(-1, 1, 11, dtype=torch.float64)[:, None].expand(11, 7)[None, None]
    assert float(acutance(ramp, 1.5)) == pytest.approx(2 / 15**2)
    assert float(acutance(ramp, (1.5, 40))) == pytest.approx(2 / 15**2)


@pytest.mark.parametrize("width", [1, 2, 5])
def test_an_edge_is_as_sharp_as_it_is_narrow(width):
    """A rise of 0.8 over ``width`` of 20 steps: the sum of squares is 0.8^2 / width."""
    profile = torch.cat([torch.zeros(8), torch.arange(1, width + 1) / width, torch.ones(13 - width)]).double()
    volume = 0.8 * profile[None, None, None, :, None].expand(1, 1, 4, 21, 3) - 0.3
    assert float(acutance(volume, (1, 0.5, 2))) == pytest.approx(0.8 / width / 0.5**2 / 20)


@pytest.mark.parametrize("size", [(9, 12), (6, 7, 8)])
def test_agrees_with_differences_by_numpy(size):
    x, spacing = images(*size), np.array((0.7, 1.3, 2.1)[: len(size)])
    expected = []
    for image in x[:, 0].double().numpy():
        squared = sum(np.mean((np.diff(image, axis=a) / h) ** 2) for a, h in enumerate(spacing))
        expected.append(squared / (image.max() - image.min()))
    np.testing.assert_allclose(acutance(x, spacing.tolist()), expected, rtol=1e-12)


def test_units():
    x = images(8, 9)
    one = acutance(x, 1)
    np.testing.assert_allclose(acutance(x, 0.5), 4 * one)
    np.testing.assert_allclose(acutance(3 * x + 1, 1), 3 * one, rtol=1e-6)
    np.testing.assert_allclose(acutance(x.transpose(2, 3), 1), one, rtol=1e-12)


def test_sees_a_pattern_from_voxel_to_voxel():
    board = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).repeat(4, 4)[None, None]
    assert float(acutance(board, 1)) == 2


def test_blur_takes_sharpness_from_a_real_image():
    file = sorted((real_data("chest_xray") / "train" / "normal").glob("*.jpeg"))[0]
    image = io.imread(file).astype(float) / 127.5 - 1
    values = [float(acutance(torch.from_numpy(gaussian_filter(image, s))[None, None], 1)) for s in (0, 0.5, 1, 2, 4)]
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.3 * values[0]


def test_a_constant_image_has_none():
    assert acutance(torch.full((2, 1, 5, 5, 5), 0.3), 1).tolist() == [0, 0]
    mixed = torch.cat([images(6, 6), torch.zeros(2, 1, 6, 6)], dim=1)
    np.testing.assert_allclose(acutance(mixed, 1), acutance(mixed[:, :1], 1) / 2)


def test_a_mask_keeps_the_outside_out():
    x = images(10, 10)
    mask = torch.zeros(2, 1, 10, 10)
    mask[:, :, 2:7, 3:9] = 1
    expected = acutance(x[:, :, 2:7, 3:9], 1)
    x[:, :, :2] = 50
    np.testing.assert_allclose(acutance(x, 1, mask), expected, rtol=1e-12)


def test_metric_in_a_report(tmp_path):
    x, y = images(6, 7), 0.1 * images(6, 7, seed=1)
    metrics = {"acutance": Acutance((1, 2)), "acutance_real": Acutance((1, 2), "real")}
    for metric in metrics.values():
        metric(list(x), list(y))
    content = MetricsReport(metrics, tmp_path, ratios={"ratio": ("acutance", "acutance_real")}).collect()["metrics"]
    found, real = content["acutance[generated]"], content["acutance[real]"]
    assert found["value"] == pytest.approx(float(acutance(x, (1, 2)).mean()))
    assert real["value"] == pytest.approx(float(acutance(y, (1, 2)).mean()))
    assert found["interval95"][0] <= found["value"] <= found["interval95"][1]
    assert found["spacing_mm"] == [1, 2]
    assert content["ratio"]["value"] == pytest.approx(found["value"] / real["value"])
    assert float(metrics["acutance"].aggregate()) == pytest.approx(found["value"])


def test_bad_input():
    x = images(5, 5)
    with pytest.raises(ValueError, match="one for each of 2 axes"):
        acutance(x, (1, 1, 1))
    with pytest.raises(ValueError, match="positive"):
        acutance(x, 0)
    with pytest.raises(ValueError, match="NaN"):
        acutance(x / 0, 1)
    with pytest.raises(ValueError, match="at least 2 voxels"):
        acutance(x[:, :, :1, :1], 1)
    with pytest.raises(ValueError, match="does not fit"):
        acutance(x, 1, torch.ones(2, 1, 5, 4))
    with pytest.raises(ValueError, match="two neighbouring"):
        acutance(x, 1, torch.eye(5).expand(2, 1, 5, 5))
    with pytest.raises(ValueError, match="of must be"):
        Acutance(1, "fake")
