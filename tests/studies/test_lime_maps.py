"""Explanations of networks that are known to look at one place."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from torch import nn

from common.studies.explanations import agreement
from common.studies.lime_maps import Explanation, correlation, explain, foreground, share_inside, stability, superpixels


class SeesContrast(nn.Module):
    """Class 1 where the upper left quarter has contrast, which hiding takes away."""

    def forward(self, images):
        side = images.shape[-1] // 2
        contrast = images[:, :, :side, :side].std((1, 2, 3))
        return torch.stack([torch.zeros_like(contrast), 20 * (contrast - 0.15)], dim=1)


def noisy(channels=1, side=48):
    """Noise all over."""
    return 0.5 * torch.sign(torch.randn(channels, side, side, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("channels", [1, 3])
def test_the_weight_lies_where_the_network_looks(channels):
    rows, columns = np.indices((48, 48)) // 12
    grid = 4 * rows + columns
    found = [explain(SeesContrast(), noisy(channels), grid, seed, num_samples=150) for seed in (0, 0, 1)]
    assert np.array_equal(found[0].weights, found[1].weights)
    assert not np.array_equal(found[0].weights, found[2].weights)
    corner = np.zeros((48, 48), bool)
    corner[:24, :24] = True
    assert share_inside(found[0], corner) > 0.8
    assert stability(found[::2])[0] > 0.8
    assert (found[0].label, found[0].probability > 0.9) == (1, True)


def test_superpixels_are_numbered_from_0_and_the_same_in_every_run():
    image = noisy(3).cumsum(1) / 10
    segments = superpixels(image, 20)
    assert set(np.unique(segments)) == set(range(segments.max() + 1))
    assert 8 < segments.max() < 40
    assert np.array_equal(segments, superpixels(image, 20))


def test_shares_and_maps_by_hand():
    segments = np.array([[0, 0], [1, 2]])
    one = Explanation(0, 0.9, segments, np.array([0.2, 0.6, -0.5]), 1.0)
    np.testing.assert_allclose(one.map, [[0.125, 0.125], [0.75, 0]])
    assert share_inside(one, np.array([[True, False], [True, True]])) == pytest.approx(0.875)
    nothing = Explanation(0, 0.9, segments, np.array([-1.0, 0, 0]), 1.0)
    assert np.isnan(share_inside(nothing, segments == 0))
    other = Explanation(0, 0.9, segments, np.array([0.6, 0.2, -0.5]), 1.0)
    assert stability([one, one]) == pytest.approx((1, 1))
    assert stability([one, other], top=1)[1] == 0
    assert correlation(one.weights, other.weights) == pytest.approx(np.corrcoef(one.weights, other.weights)[0, 1])
    assert np.isnan(correlation(np.ones(3), one.weights))


def test_real_and_synthetic_maps_of_one_kind_agree_as_real_ones_do_among_themselves():
    random = np.random.default_rng(0)
    common, other = random.normal(size=(2, 1, 8, 8))
    draws = [[common + 2 * random.normal(size=(10, 8, 8)) for _ in range(2)] for _ in range(30)]
    found = [agreement(real, synthetic) for real, synthetic in draws]
    between, halves = (np.mean([f[key] for f in found]) for key in ("between", "halves_of_real"))
    assert halves == pytest.approx(
        common.var() / (common.var() + 4 / 5), abs=0.05
    )  # 4 / 5: variance of a mean over five
    assert between == pytest.approx(halves, abs=0.03)
    different = agreement(draws[0][0], other + 2 * random.normal(size=(6, 8, 8)))
    assert different["between"] < different["halves_of_real"] - 0.2
    assert agreement(common, common) == {"between": pytest.approx(1), "halves_of_real": None}


def test_the_head_is_bright_and_nuclei_are_purple():
    image = -torch.ones(1, 40, 40)
    image[:, 5:30, 5:30] = -0.5  # dim brain
    image[:, 5:30, 5:8] = 1.0  # bright scalp
    image[:, 10:14, 10:14] = -1  # a dark ventricle belongs to the head
    image[:, 36:38, 36:38] = 0.5  # a bright mark does not
    head = foreground(image)
    assert head[5:30, 5:30].all()
    assert head.sum() == 25 * 25
    smear = torch.full((3, 40, 40), 0.9)
    smear[:, 20:30, 20:30] = torch.tensor([0.1, 0.2, 0.5])[:, None, None]  # a bluish red cell
    nuclei = torch.zeros(40, 40, dtype=torch.bool)
    nuclei[2:9, 3:9] = nuclei[30:36, 4:9] = True
    smear[:, nuclei] = torch.tensor([-0.1, -0.5, 0.3])[:, None]
    smear += 0.04 * torch.rand(smear.shape, generator=torch.Generator().manual_seed(0))
    assert np.array_equal(foreground(smear, largest=False), nuclei.numpy())
    assert foreground(smear).sum() == 7 * 6
    assert not foreground(torch.zeros(1, 8, 8)).any()


def test_a_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "lime.lime_image", None)
    with pytest.raises(ImportError, match=r"An explanation needs .* lime: .*requirements-metrics"):
        explain(SeesContrast(), noisy(), np.zeros((48, 48), int))
