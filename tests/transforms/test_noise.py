"""Warnings about noise that is wider than a pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch.nn import functional as F

from common.transforms.degrade import noisy
from common.transforms.noise import CheckWhiteNoised, noise_width
from tests.masks.phantom2d import chest_picture


def xray(side=128, seed=0, sigma=0.1, share=0.05):
    """(1, side, side) in [0, 1], noise as in training."""
    clean = torch.from_numpy(chest_picture(side, seed=seed).astype(np.float32))[None] / 255
    return noisy(clean, sigma, share, np.random.RandomState(seed))


def enlarged(image, factor, mode="bicubic"):
    return F.interpolate(image[None], scale_factor=factor, mode=mode)[0]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("sigma", "share"), [(0, 0), (0.02, 0), (0.02, 0.1), (0.2, 0.1)])
def test_white_noise_and_none_are_one_pixel_wide(seed, sigma, share):
    assert noise_width(xray(seed=seed, sigma=sigma, share=share)[0]) == 1


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("factor", [2, 3, 4])
def test_enlarged_noise_is_as_wide_as_the_factor_wherever_the_grid_lies(seed, factor):
    assert noise_width(enlarged(xray(seed=seed), factor)[0][seed:, 2 * seed :]) == factor


@pytest.mark.parametrize("image", [torch.zeros(128, 128), torch.rand(20, 30), torch.eye(128)])
def test_too_little_to_say(image):
    assert noise_width(image) == 1


def test_the_warning_names_the_file_and_the_size_once(caplog):
    check = CheckWhiteNoised("image")
    image = MetaTensor(2 * enlarged(xray(64), 4)[..., None] - 1, meta={"filename_or_obj": "a/b.png"})
    for _ in range(2):
        assert check({"image": image})["image"] is image
    assert caplog.text.count("a/b.png: its noise is about 4 pixels wide") == 1
    assert "bring the image to about 64 x 64 pixels first" in caplog.text
    caplog.clear()
    check({"image": MetaTensor(2 * xray() - 1, meta={"filename_or_obj": "c.png"})})
    assert not caplog.text
