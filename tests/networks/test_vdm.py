from __future__ import annotations

import math

import pytest
import torch

from common.networks.gamma import FixedLinearGamma, Gamma
from common.networks.pixel_codec import check_images
from common.networks.vdm import NoiseLevelScale, UNetScore, unet_vdm
from common.networks.vdm_dense import DenseBlock, bernoulli_entropy, dense_vdm

SIZE = (16, 24)
UNET = {
    "channels": (8, 16),
    "num_res_blocks": 1,
    "attention_levels": (False, False),
    "num_head_channels": 8,
    "norm_num_groups": 8,
}


def dense(**changes):
    torch.manual_seed(0)
    return dense_vdm(SIZE, FixedLinearGamma(), **{"features": 32, "score_features": 32, **changes})


def pixels(**changes):
    torch.manual_seed(0)
    return unet_vdm(FixedLinearGamma(), **{**UNET, **changes})


def images(cases: int = 3) -> torch.Tensor:
    return torch.rand(cases, 1, *SIZE, generator=torch.Generator().manual_seed(1))


def disturb(model: torch.nn.Module) -> None:
    """No layer is zero, as after training."""
    for parameter in model.parameters():
        if not bool(parameter.any()):
            torch.nn.init.normal_(parameter, std=0.05)


@pytest.mark.parametrize(("make", "latent"), [(dense, (64,)), (pixels, (1, *SIZE))])
def test_shapes(make, latent):
    model, x = make(), images()
    f = model.encode(x)
    assert f.shape == (3, *latent)
    assert model.latent_shape(SIZE) == latent
    assert model.log_likelihood(x, f).shape == (3,)
    decoded = model.decode(f)
    assert decoded.shape == x.shape
    assert 0 <= float(decoded.min()) <= float(decoded.max()) <= 1
    assert torch.equal(model(x), model(x)), "a call without a bound is the decoded mean of z_0"
    assert model.eps_hat(f, torch.tensor(0.0)).shape == f.shape
    assert bool((model.log_likelihood(x, f) <= 0).all())


@pytest.mark.parametrize("make", [dense, pixels])
def test_a_fresh_score_network_returns_its_input(make):
    model = make()
    z = torch.randn(2, *model.latent_shape(SIZE))
    torch.testing.assert_close(model.eps_hat(z, torch.tensor([-3.0, 3.0])), z)


@pytest.mark.parametrize("make", [dense, pixels])
def test_each_case_is_predicted_from_its_own_noise_level_and_class(make):
    model = make(num_classes=3)
    disturb(model)
    z = torch.randn(2, *model.latent_shape(SIZE))
    gammas, classes = torch.tensor([-3.0, 3.0]), torch.tensor([0, 2])
    both = model.eps_hat(z, gammas, classes)
    alone = [model.eps_hat(z[i : i + 1], gammas[i], classes[i : i + 1]) for i in (0, 1)]
    torch.testing.assert_close(both, torch.cat(alone), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(both, model.eps_hat(z, gammas.flip(0), classes), atol=1e-4)
    assert not torch.allclose(both, model.eps_hat(z, gammas, torch.tensor([1, 1])), atol=1e-4)


def test_the_papers_numbers():
    model = dense_vdm((8, 8))
    assert model.latent_shape((8, 8)) == (64,)
    assert [len(part.blocks) for part in (model.encoder, model.decoder, model.score)] == [6, 6, 10]
    assert model.score.embedding == 128


def test_the_network_knows_the_noise_level_not_the_schedule():
    torch.manual_seed(0)
    model = dense_vdm(SIZE, Gamma(-4.0, 4.0), features=16, score_features=16)
    disturb(model)
    z, gamma = torch.randn(2, 64), torch.tensor([0.5, 1.0])
    before = model.eps_hat(z, gamma)
    with torch.no_grad():
        model.gamma.gamma_max.fill_(6.0)
    assert torch.equal(model.eps_hat(z, gamma), before)


def test_the_step_of_the_embedding():
    scale = NoiseLevelScale(-4.0, 6.0)
    torch.testing.assert_close(scale(torch.tensor([-4.0, 1.0, 6.0])), torch.tensor([0.0, 500.0, 1000.0]))
    with pytest.raises(ValueError, match="gamma_min must be below"):
        NoiseLevelScale(1.0, 1.0)


def test_bernoulli_likelihood_of_black_and_white_images_and_of_grey_ones():
    model, z = dense(), torch.randn(3, 64)
    disturb(model)
    model.gamma = FixedLinearGamma(-1.0, 5.0)  # far enough from alpha_0 = 1 to see that z_0 is divided by it
    z_0 = z * torch.sigmoid(torch.tensor(1.0)).sqrt()
    logits = model.decoder.logits(z)
    binary = (images() > 0.5).float()
    expected = torch.distributions.Bernoulli(logits=logits).log_prob(binary).sum((1, 2, 3))
    torch.testing.assert_close(model.log_likelihood(binary, z_0), expected, rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(model.decode(z_0), torch.sigmoid(logits), rtol=1e-5, atol=1e-6)
    grey = images()
    assert bool((-model.log_likelihood(grey, z_0) >= bernoulli_entropy(grey)).all())
    half = torch.full((1, 1, 2, 2), 0.5)
    torch.testing.assert_close(bernoulli_entropy(half), torch.tensor([4 * math.log(2)]))
    assert float(bernoulli_entropy(torch.ones(1, 1, 2, 2))) == 0


def test_a_dense_block_starts_as_the_identity_and_uses_its_condition():
    torch.manual_seed(0)
    block, h, cond = DenseBlock(8, 4), torch.randn(2, 8), torch.randn(2, 4)
    assert torch.equal(block(h, cond), h)
    disturb(block)
    assert not torch.allclose(block(h, cond), block(h, -cond))


def test_the_gradient_of_the_likelihood_reaches_the_endpoint():
    model = unet_vdm(Gamma(-7.0, 5.0), **UNET).double()
    x = images().double()
    eps = torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def value() -> torch.Tensor:
        g = model.gamma.gamma_min
        z_0 = torch.sigmoid(-g).sqrt() * model.encode(x) + torch.sigmoid(g).sqrt() * eps
        return model.log_likelihood(x, z_0).sum()

    (slope,) = torch.autograd.grad(value(), model.gamma.gamma_min)
    ends = []
    for step in (1e-5, -1e-5):
        with torch.no_grad():
            model.gamma.gamma_min.fill_(-7.0 + step)
            ends.append(float(value()))
    assert float(slope) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-4)


def test_fourier_features_and_the_residual_on_the_input():
    torch.manual_seed(0)
    score = UNetScore(fourier=(0, 1), **UNET)
    seen = {}

    def record(x, timesteps, class_labels=None):
        seen.update(x=x, timesteps=timesteps)
        return torch.ones_like(x[:, :1])

    score.unet.forward = record
    z = torch.linspace(-1, 1, 2 * 16 * 16).reshape(2, 1, 16, 16)
    torch.testing.assert_close(score(z, torch.tensor([-13.3, 5.0])), z + 1)
    angle = torch.pi * z
    expected = torch.cat([z, angle.sin(), angle.cos(), (2 * angle).sin(), (2 * angle).cos()], dim=1)
    torch.testing.assert_close(seen["x"], expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(seen["timesteps"], torch.tensor([0.0, 1000.0]))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(1, 1, 8, 8), r"made for images of \(16, 24\) pixels, got \(8, 8\)"),
        (torch.zeros(1, 3, *SIZE), r"must be float \(N, 1, H, W\)"),
        (torch.zeros(1, 1, *SIZE, dtype=torch.uint8), r"must be float \(N, 1, H, W\)"),
        (torch.full((1, 1, *SIZE), 255.0), r"must lie in \[0, 1\], got values from 255 to 255"),
        (torch.full((1, 1, *SIZE), -0.1), r"must lie in \[0, 1\]"),
        (torch.full((1, 1, *SIZE), math.nan), r"must lie in \[0, 1\]"),
    ],
)
@pytest.mark.parametrize("make", [dense, lambda: unet_vdm(image_size=SIZE, **UNET)])
def test_images_that_a_model_does_not_take(make, x, message):
    with pytest.raises(ValueError, match=message):
        make().encode(x)


def test_any_size_where_none_is_insisted_on_and_rounding_is_forgiven():
    check_images(torch.full((1, 1, 5, 7), 1.000001))
    with pytest.raises(ValueError, match="made for images of"):
        dense().latent_shape((8, 8))


@pytest.mark.parametrize("make", [dense, pixels])
def test_classes_that_a_model_does_not_take(make):
    z = torch.zeros(2, *make().latent_shape(SIZE))
    with pytest.raises(ValueError, match="takes no class_labels, got some"):
        make().eps_hat(z, torch.tensor(0.0), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"takes class_labels in \[0, 3\), got none"):
        make(num_classes=3).eps_hat(z, torch.tensor(0.0))
    with pytest.raises(ValueError, match=r"must lie in \[0, 3\)"):
        make(num_classes=3).eps_hat(z, torch.tensor(0.0), torch.tensor([0, 3]))
