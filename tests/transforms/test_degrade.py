"""Degradations: sizes, strengths, seeds, and what they write into the case."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from common.transforms.degrade import RandDownsampled, RandHoled, RandNoisyd, downsampled, noisy

FACTORS = [2 ** (k / 2) for k in range(3, 9)]


def image(side: int = 64) -> torch.Tensor:
    x = torch.linspace(0, 1, side)
    return (100 + 80 * torch.sin(20 * x)[:, None] * torch.cos(13 * x)[None])[None]


@pytest.mark.parametrize("factor", FACTORS)
def test_downsampling_keeps_size_and_mean_and_loses_detail(factor):
    before = image()
    after = downsampled(before, factor)
    assert after.shape == before.shape
    assert abs(float(after.mean() - before.mean())) < 4
    assert after.var() < before.var()


def test_downsampling_is_anti_aliased():
    stripes = torch.zeros(1, 64, 64)
    stripes[:, ::2] = 1  # the finest pattern there is; every second pixel alone would make it all black or white
    assert float((downsampled(stripes, 4)[:, 16:48, 16:48] - 0.5).abs().max()) < 0.05


def test_downsampling_by_one_changes_nothing_and_refuses_factors_below():
    torch.testing.assert_close(downsampled(image(), 1.0), image(), rtol=0, atol=1e-3)
    with pytest.raises(ValueError, match="at least 1"):
        downsampled(image(), 0.5)
    with pytest.raises(ValueError, match="at least 1"):
        RandDownsampled("image", factors=[0.5])


def test_noise_has_the_stated_strength():
    grey = torch.full((1, 256, 256), 0.5)
    grey[0, 0, :2] = torch.tensor([0.0, 1.0])  # the range
    gaussian = noisy(grey, 0.1, 0.0, np.random.RandomState(0)) - grey
    assert abs(float(gaussian.std()) - 0.1) < 0.002
    salted = noisy(grey, 0.0, 0.06, np.random.RandomState(0))
    assert abs(float((salted == 0).float().mean()) - 0.03) < 0.003
    assert abs(float((salted == 1).float().mean()) - 0.03) < 0.003
    result = noisy(image(), 0.5, 0.2, np.random.RandomState(0))
    assert (float(result.min()), float(result.max())) == (float(image().min()), float(image().max()))


TRANSFORMS = [
    (RandDownsampled, "condition", {"factor"}),
    (RandNoisyd, "condition", {"sigma", "share"}),
    (RandHoled, "hole", {"kind", "area"}),
]


@pytest.mark.parametrize(("kind", "key", "parameters"), TRANSFORMS)
def test_a_seed_fixes_the_degradation_by_case(kind, key, parameters):
    make = (lambda seed: kind("image", factors=FACTORS, seed=seed)) if kind is RandDownsampled else None
    make = make or (lambda seed: kind("image", seed=seed))
    case = {"image": MetaTensor(image()), "case": "a"}
    first, second = make(0)(case), make(0)(case)
    assert torch.equal(first[key], second[key])
    assert set(first[f"{key}_parameters"]) == parameters
    assert first[f"{key}_parameters"] == second[f"{key}_parameters"]
    others = [make(0)({**case, "case": name}) for name in "bcdef"] + [make(1)(case)]
    assert any(not torch.equal(first[key], other[key]) for other in others)
    assert torch.equal(case["image"], image())


@pytest.mark.parametrize(("kind", "key", "parameters"), TRANSFORMS)
def test_without_a_seed_the_random_state_decides_and_what_is_no_image_is_refused_by_name(kind, key, parameters):
    one, two = (kind("image").set_random_state(seed=3) for _ in range(2))
    for _ in range(2):
        assert torch.equal(one({"image": image()})[key], two({"image": image()})[key])
    with pytest.raises(ValueError, match=r"patient7.*2D"):
        kind("image")({"image": torch.zeros(8, 8), "case": "patient7"})
    if kind is not RandDownsampled:
        with pytest.raises(ValueError, match=r"patient7.*2D"):
            kind("image")({"image": torch.zeros(1, 8, 8, 8), "case": "patient7"})


def test_a_stack_is_brought_to_the_coarse_grid_slice_by_slice():
    stack = torch.rand(1, 16, 12, 3, generator=torch.Generator().manual_seed(0))
    coarse = RandDownsampled("image", factors=[4])({"image": stack})["condition"]
    for index in range(3):
        torch.testing.assert_close(coarse[..., index], downsampled(stack[..., index], 4))
