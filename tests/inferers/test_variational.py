from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from common.diffusion.steps import DDIM, DPMSolverPP2M
from common.inferers.variational import (
    BoundInferer,
    VariationalInterpolator,
    VariationalReconstructor,
    VariationalSampler,
    inner_model,
)
from common.networks.gamma import FixedLinearGamma, MonotoneGamma, alpha_sigma
from common.networks.vdm import unet_vdm
from common.networks.vdm_dense import dense_vdm

from ..diffusion.variational_toys import gaussian_data, gaussian_model

STD = torch.tensor([0.3, 0.7, 1.0, 2.0])
QUIET = {"progress": False}


def toy(gamma=None):
    return gaussian_model(gamma or FixedLinearGamma(-8.0, 8.0), STD)


def dense(**changes):
    torch.manual_seed(0)
    options = {"features": 16, "score_features": 16, "blocks": 1, "score_blocks": 1, "latent_features": 8}
    return disturbed(dense_vdm((8, 8), MonotoneGamma(-6.0, 5.0, 16), **{**options, **changes}))


def pixels():
    torch.manual_seed(0)
    unet = {"channels": (8,), "num_res_blocks": 1, "attention_levels": (False,), "num_head_channels": 8}
    return disturbed(unet_vdm(FixedLinearGamma(), norm_num_groups=8, **unet))


def disturbed(model):
    for parameter in model.parameters():
        if not bool(parameter.any()):
            torch.nn.init.normal_(parameter, std=0.05)
    return model


def pictures(cases: int = 3, channels: int = 1) -> torch.Tensor:
    return torch.rand(cases, channels, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("rule", "steps"), [(None, 400), (DDIM(), 200), (DPMSolverPP2M(min_log_snr=-9), 25)])
@pytest.mark.parametrize("bent", [False, True])
def test_samples_of_gaussian_data_have_its_spread(rule, steps, bent):
    torch.manual_seed(0)
    gamma = MonotoneGamma(-8.0, 8.0, 16) if bent else None
    sampler = VariationalSampler((1, 1), step_rule=rule, num_inference_steps=steps, **QUIET)
    z_1 = torch.randn(8000, 4)
    with torch.no_grad():
        drawn = sampler._denoise(toy(gamma), z_1, None, lambda: torch.randn(8000, 4))
    torch.testing.assert_close(drawn.std(0) / STD, torch.ones(4), atol=0.04, rtol=0)
    torch.testing.assert_close(drawn.mean(0) / STD, torch.zeros(4), atol=0.05, rtol=0)


def test_an_ancestral_step_is_the_papers_equation():
    model, gamma = toy(), torch.tensor([3.0, -1.0])
    sampler = VariationalSampler((1, 1), num_inference_steps=1, **QUIET)
    z_t, eps = torch.randn(2, 4), torch.randn(2, 4)
    model.gamma = FixedLinearGamma(-1.0, 3.0)
    got = sampler._denoise(model, z_t, None, lambda: eps)
    # Kingma et al. 2021, eq. 31 to 33
    (alpha_t, sigma_t), (alpha_s, sigma_s) = alpha_sigma(gamma[0]), alpha_sigma(gamma[1])
    c = -torch.expm1(gamma[1] - gamma[0])
    eps_hat = model.eps_hat(z_t, gamma[0])
    expected = alpha_s / alpha_t * (z_t - c * sigma_t * eps_hat) + (sigma_s**2 * c).sqrt() * eps
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("make", [dense, pixels])
def test_a_case_is_the_same_in_any_batch_and_differs_from_others(make):
    model = make()
    sampler = VariationalSampler((8, 8), num_inference_steps=3, seed=5, **QUIET)
    together = sampler(torch.arange(4), model)
    assert together.shape == (4, 1, 8, 8)
    assert 0 <= float(together.min()) <= float(together.max()) <= 1
    seeds = sampler.last_seeds
    alone = sampler(torch.tensor([[2]]), model)
    # a pixel may fall to the next of 256 levels by rounding
    assert float((alone - together[2:3]).abs().max()) < 1.01 / 255
    assert sampler.last_seeds == [seeds[2]]
    assert len({tuple(image.flatten().tolist()) for image in together}) == 4
    other = VariationalSampler((8, 8), num_inference_steps=3, seed=6, **QUIET)(torch.arange(4), model)
    assert not torch.allclose(other, together, atol=0.01)


def test_given_seeds_and_images_as_inputs():
    model, x = dense(), pictures()
    sampler = VariationalSampler(num_inference_steps=2, **QUIET)
    drawn = sampler(MetaTensor(x), model, seeds=[7, 8, 9])
    assert isinstance(drawn, MetaTensor)
    assert drawn.shape == x.shape
    torch.testing.assert_close(sampler(x[1:2], model, seeds=[8]), drawn[1:2].as_tensor())
    own = sampler(x, model)
    torch.testing.assert_close(sampler(x[2:], model), own[2:])


@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("rule", [None, DDIM(), DPMSolverPP2M()])
def test_any_number_of_steps(steps, rule):
    model = pixels()
    drawn = VariationalSampler((8, 8), step_rule=rule, num_inference_steps=steps, clip_sample=True, **QUIET)
    image = drawn(torch.tensor([0]), model)
    assert bool(image.isfinite().all())
    assert torch.equal(image, (image * 255).round() / 255)


def test_the_deterministic_way_depends_on_the_first_noise_alone():
    model, z = toy(), torch.randn(2, 4)

    def no_noise():
        raise AssertionError("noise was drawn")

    sampler = VariationalSampler((1, 1), step_rule=DDIM(), num_inference_steps=10, **QUIET)
    assert torch.equal(sampler._denoise(model, z, None, no_noise), sampler._denoise(model, z, None, no_noise))


def test_classes_reach_the_network():
    model = dense(num_classes=3)
    sampler = VariationalSampler((8, 8), num_inference_steps=2, **QUIET)
    numbers = torch.tensor([0, 0])
    images = sampler(numbers, model, class_labels=torch.tensor([[0], [2]]))
    assert not torch.equal(images[0], images[1]), "the same noise, another class"
    with pytest.raises(ValueError, match="takes class_labels"):
        sampler(numbers, model)
    with pytest.raises(ValueError, match="2 cases need as many class_labels, got 1"):
        sampler(numbers, model, class_labels=torch.tensor([0]))


def test_the_network_is_left_in_training_mode_and_found_behind_wrappers():
    model = dense().train()
    wrapped = Wrapper(model)
    VariationalSampler((8, 8), num_inference_steps=1, **QUIET)(torch.tensor([0]), wrapped)
    assert model.training
    assert inner_model(wrapped) is model
    with pytest.raises(TypeError, match="needs a VariationalDiffusionModel, got Linear"):
        inner_model(torch.nn.Linear(1, 1))


class Wrapper(torch.nn.Module):
    def __init__(self, module):
        super().__init__()
        self.module = module


def test_equal_images_have_equal_bounds_and_nobody_is_told_to_give_seeds(recwarn):
    images, model = pictures(2)[[0, 1, 0]], dense()
    terms = BoundInferer(times=2)(images, model)
    assert torch.equal(terms[0], terms[2])
    assert not torch.equal(terms[0], terms[1])
    again = VariationalReconstructor(0.5, num_inference_steps=2, **QUIET)(images, model)
    assert torch.equal(again[0], again[2])
    assert not [warning for warning in recwarn if "same" in str(warning.message)]
    with pytest.warns(UserWarning, match="same condition"):
        VariationalSampler(num_inference_steps=2, **QUIET)(images, model)


def test_reconstruction_without_noise_is_encoding_and_decoding():
    x = (pictures() * 255).round() / 255
    pixel_model = pixels()
    back = VariationalReconstructor(0.0, num_inference_steps=5, **QUIET)(x, pixel_model)
    assert float((back - x).abs().max()) < 1.01 / 255  # z_0 has noise of gamma(0)
    model = dense()
    far = VariationalReconstructor(1.0, num_inference_steps=5, **QUIET)(x, model)
    assert far.shape == x.shape


def test_reconstruction_of_gaussian_data_keeps_more_the_less_noise_it_gets():
    x = gaussian_data(STD, 2000)
    error = []
    for start in (0.2, 0.5, 0.8):
        reconstructor = VariationalReconstructor(start, step_rule=DDIM(), num_inference_steps=40, **QUIET)
        back = reconstructor(x, toy(), seeds=range(2000))
        error.append(float(((back - x) / STD).square().mean()))
    assert error[0] < 0.05 < error[1] < error[2]


def test_ends_of_an_interpolation_are_the_reconstructions():
    model, pair = dense(), pictures(2, channels=2)
    options = {"start": 0.6, "num_inference_steps": 10, **QUIET}
    images = VariationalInterpolator((0.0, 0.5, 1.0), **options)(pair, model, seeds=[3, 4])
    assert images.shape == (2, 3, 8, 8)
    reconstructor = VariationalReconstructor(**options)
    for column, channel in ((0, 0), (2, 1)):
        alone = reconstructor(pair[:, channel : channel + 1], model, seeds=[3, 4])
        torch.testing.assert_close(images[:, column : column + 1], alone, rtol=1e-4, atol=1e-5)


def test_a_mixture_is_as_noisy_as_its_ends():
    model, pair, seen = pixels(), torch.zeros(1, 2, 64, 64), []
    pair[:, 1] = 1.0
    interpolator = VariationalInterpolator((0.0, 0.3), start=0.5, **QUIET)
    interpolator._denoise = lambda model, z, classes, noise: seen.append(z) or z
    interpolator(pair, model)
    alpha, sigma = alpha_sigma(model.gamma(torch.tensor(0.5)))
    first, mixed = seen
    black, white = model.encode(pair[:, :1]), model.encode(pair[:, 1:])
    torch.testing.assert_close(mixed - first, 0.3 * alpha * (white - black))
    assert float((mixed - alpha * (black + 0.3 * (white - black))).std()) == pytest.approx(float(sigma), rel=0.03)


def test_a_network_that_predicts_nan_is_stopped_with_the_step():
    model = dense()
    with torch.no_grad():
        model.score.linear_out.bias.fill_(float("nan"))
    for inferer, inputs in (
        (VariationalSampler((8, 8), num_inference_steps=3, **QUIET), torch.tensor([0])),
        (VariationalReconstructor(num_inference_steps=6, **QUIET), pictures()),
    ):
        with pytest.raises(RuntimeError, match="NaN or infinity in step 1 of 3"):
            inferer(inputs, model)


def test_bad_options_and_inputs():
    with pytest.raises(ValueError, match="num_inference_steps must be at least 1"):
        VariationalSampler(num_inference_steps=0)
    for kind in (VariationalReconstructor, VariationalInterpolator):
        with pytest.raises(ValueError, match=r"start must lie in \[0, 1\]"):
            kind(start=1.1)
    with pytest.raises(ValueError, match="at least one entry"):
        VariationalInterpolator(weights=())
    model = dense()
    with pytest.raises(ValueError, match="image_size is required"):
        VariationalSampler(**QUIET)(torch.tensor([0]), model)
    with pytest.raises(ValueError, match=r"must be images, \(N, 1, H, W\)"):
        VariationalSampler(**QUIET)(torch.rand(2), model)
    with pytest.raises(ValueError, match=r"made for images of \(8, 8\) pixels, got \(9, 8\)"):
        VariationalSampler((9, 8), **QUIET)(torch.tensor([0]), model)
    with pytest.raises(ValueError, match=r"Pairs of images must be \(N, 2, H, W\)"):
        VariationalInterpolator(**QUIET)(pictures(), model)
    with pytest.raises(ValueError, match="2 cases, 1 seeds"):
        VariationalSampler((8, 8), **QUIET)(torch.arange(2), model, seeds=[1])
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        VariationalReconstructor(**QUIET)(pictures() * 255, model)


def test_progress_is_shown_when_asked_for(capfd):
    model = dense()
    for progress in (True, False):
        VariationalSampler((8, 8), num_inference_steps=2, progress=progress)(torch.tensor([0]), model)
        assert ("Sampling" in capfd.readouterr().err) is progress
