from __future__ import annotations

import pytest
import torch

from common.networks.pixel_codec import PixelCodec


@pytest.mark.parametrize("gamma_0", [-20.0, -13.3, -9.0, -6.0, -2.0, 3.0])
def test_the_likelihood_of_256_levels_against_all_of_them(gamma_0):
    codec, g = PixelCodec(), torch.tensor(gamma_0, dtype=torch.float64)
    x = torch.arange(256, dtype=torch.float64).reshape(4, 1, 8, 8) / 255
    generator = torch.Generator().manual_seed(0)
    f = codec(x)
    z = f + torch.exp(0.5 * g) * torch.randn(f.shape, generator=generator, dtype=torch.float64)
    levels = 2 * (torch.arange(256, dtype=torch.float64) + 0.5) / 256 - 1
    every = torch.log_softmax(-0.5 * torch.exp(-g) * (z[..., None] - levels).square(), dim=-1)
    own = every.gather(-1, (x * 255).round().long()[..., None])[..., 0]
    torch.testing.assert_close(codec.log_likelihood(x, z, g), own.sum((1, 2, 3)), rtol=1e-12, atol=1e-12)
    most_likely = (codec.image(z, g) * 255).round().long()
    assert torch.equal(most_likely, every.argmax(-1))


def test_the_likelihood_sums_to_one_over_the_levels():
    codec, g = PixelCodec(), torch.tensor(-9.0, dtype=torch.float64)
    z = torch.tensor([[[[0.3017]]]], dtype=torch.float64).expand(256, -1, -1, -1)
    x = torch.arange(256, dtype=torch.float64).reshape(256, 1, 1, 1) / 255
    assert float(codec.log_likelihood(x, z, g).exp().sum()) == pytest.approx(1.0, abs=1e-12)


def test_the_pixel_codec_gives_every_level_back():
    codec = PixelCodec()
    x = torch.arange(256).reshape(1, 1, 16, 16) / 255
    f = codec(x)
    assert float(f.min()) == pytest.approx(-1 + 1 / 256)
    assert float(f.max()) == pytest.approx(1 - 1 / 256)
    torch.testing.assert_close(codec.image(f, torch.tensor(-13.3)), x)
