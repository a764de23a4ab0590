"""Baselines against scikit-image and by what they must do."""

import numpy as np
import pytest
import torch
from skimage.filters import median as skimage_median
from skimage.restoration import denoise_nl_means, inpaint_biharmonic

from common.transforms.baselines import MethodImagesd, bicubic, biharmonic, median, noise_sigma, nonlocal_means
from common.transforms.degrade import downsampled, noisy
from tests.masks.phantom2d import head_slice


@pytest.fixture(scope="module")
def clean():
    return torch.from_numpy(head_slice(48).astype(np.float32))[None] / 127.5 - 1


def error(a, b):
    return float((a - b).square().mean())


def test_median_is_scikit_images_and_removes_salt_and_pepper(clean):
    degraded = noisy(clean, 0.0, 0.1, np.random.RandomState(0))
    restored = median({"degraded": degraded}, size=3)
    theirs = skimage_median(degraded[0].numpy(), np.ones((3, 3)), mode="reflect")
    np.testing.assert_allclose(restored[0], theirs, atol=1e-6)
    assert error(restored, clean) < 0.35 * error(degraded, clean)
    with pytest.raises(ValueError, match="size must be odd"):
        median({"degraded": degraded}, size=4)


def test_nonlocal_means_is_scikit_images_with_the_estimated_noise(clean):
    degraded = clean + 0.2 * torch.from_numpy(np.random.default_rng(0).standard_normal(clean.shape)).float()
    sigma = noise_sigma(degraded[0].double().numpy())
    assert sigma == pytest.approx(0.2, rel=0.2)
    theirs = denoise_nl_means(degraded[0].double().numpy(), 5, 6, h=0.8 * sigma, sigma=sigma, fast_mode=True)
    np.testing.assert_allclose(nonlocal_means({"degraded": degraded})[0], theirs, atol=1e-6)
    assert error(nonlocal_means({"degraded": degraded}), clean) < 0.5 * error(degraded, clean)
    flat = torch.full((1, 16, 16), 0.3)
    torch.testing.assert_close(nonlocal_means({"degraded": flat}), flat)


def test_a_median_first_helps_nonlocal_means_against_salt_and_pepper(clean):
    case = {"degraded": noisy(clean, 0.1, 0.05, np.random.RandomState(1))}
    assert error(nonlocal_means(case, median_size=3), clean) < error(nonlocal_means(case), clean)


def test_biharmonic_is_scikit_images_and_leaves_known_pixels(clean):
    hole = torch.zeros(1, 48, 48)
    hole[:, 20:27, 18:30] = 1
    restored = biharmonic({"label": clean, "hole": hole})
    assert torch.equal(restored[hole == 0], clean[hole == 0])
    blank = clean[0].masked_fill(hole[0] > 0, 0).double().numpy()
    np.testing.assert_allclose(restored[0], inpaint_biharmonic(blank, hole[0].numpy() > 0), atol=1e-6)
    other = biharmonic({"label": clean.masked_fill(hole > 0, 9.0), "hole": hole})
    assert torch.equal(restored, other), "what the hole holds does not matter"


def test_biharmonic_fills_a_plane_exactly():
    plane = torch.linspace(-1, 1, 20)[:, None].expand(20, 24)[None] * 0.5
    hole = torch.zeros(1, 20, 24)
    hole[:, 8:12, 9:14] = 1
    torch.testing.assert_close(biharmonic({"label": plane, "hole": hole}), plane.clone(), atol=1e-4, rtol=0)


def test_bicubic_keeps_the_mean_and_is_nearer_than_bilinear(clean):
    restored = bicubic({"label": clean}, factor=4.0)
    assert restored.shape == clean.shape
    assert error(restored, clean) < error(downsampled(clean, 4.0), clean)
    torch.testing.assert_close(bicubic({"label": clean}, factor=1.0), clean, atol=1e-4, rtol=0)


def test_methods_are_clipped_and_wrong_ones_are_named():
    case = {"label": torch.zeros(1, 4, 4), "case": "a"}
    add = MethodImagesd({"bright": lambda case: case["label"] + 3})
    assert float(add(case)["bright"].max()) == 1.0
    with pytest.raises(ValueError, match=r"wide, case a: \(1, 4, 4\), finite, was expected, got \(2, 4, 4\)"):
        MethodImagesd({"wide": lambda case: torch.zeros(2, 4, 4)})(case)
    with pytest.raises(ValueError, match="got NaN"):
        MethodImagesd({"nan": lambda case: case["label"] / 0})(case)
    with pytest.raises(ValueError, match=r"cannot be named \['label'\]"):
        MethodImagesd({"label": lambda case: case["label"]})(case)
