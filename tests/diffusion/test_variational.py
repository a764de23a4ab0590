from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from common.diffusion.variational import (
    TERMS,
    VariationalBound,
    bits_per_dimension,
)
from common.networks.gamma import FixedLinearGamma, Gamma, MonotoneGamma, alpha_sigma

from .variational_toys import (
    HIGH,
    LOW,
    STD,
    gaussian_data,
    gaussian_diffusion,
    gaussian_entropy,
    gaussian_model,
    random,
    two_level_model,
)


def bent(seed: int, low: float = LOW, high: float = HIGH) -> MonotoneGamma:
    """A schedule far from the straight line."""
    torch.manual_seed(seed)
    gamma = MonotoneGamma(low, high, 16)
    with torch.no_grad():
        for name, parameter in gamma.named_parameters():
            if name.startswith(("raw", "bias")):
                parameter.add_(4 * torch.randn(parameter.shape))
    return gamma.double()


@torch.no_grad()
def mean_terms(model, x, bound=None, seed: int = 0) -> dict[str, float]:
    terms = (bound or VariationalBound())(model, x, generator=random(seed))
    assert all(terms[name].shape == (len(x),) for name in TERMS)
    return {name: float(terms[name].mean()) for name in TERMS}


SHAPES = {
    "linear": lambda: FixedLinearGamma(LOW, HIGH).double(),
    "bent one way": lambda: bent(0),
    "bent another way": lambda: bent(11),
    "fresh": lambda: MonotoneGamma(LOW, HIGH, 32).double(),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_gaussian_data_the_bound_is_the_entropy_whatever_the_schedules_shape(shape):
    gamma = SHAPES[shape]()
    terms = mean_terms(gaussian_model(gamma, STD), gaussian_data(STD, 100_000))
    assert terms["diffusion"] == pytest.approx(gaussian_diffusion(STD, LOW, HIGH), rel=0.01)
    assert sum(terms.values()) == pytest.approx(gaussian_entropy(STD), rel=0.01)


def test_the_shapes_of_that_test_differ():
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    straight = SHAPES["linear"]()(t)
    away = [float((SHAPES[name]()(t) - straight).detach().abs().max()) for name in ("bent one way", "bent another way")]
    assert min(away) > 2, away


@pytest.mark.parametrize("levels", [(64, 192), (100, 101)])
def test_two_grey_levels_the_bound_is_one_bit(levels):
    # the real codec and 256 levels; with gamma(0) = -16 it tells neighbouring levels apart without error
    gamma = FixedLinearGamma(-16.0, 5.0).double()
    model = two_level_model(gamma, levels, torch.float64)
    generator = random(1)
    level = torch.randint(2, (400_000, 1, 1, 1), generator=generator)
    x = torch.where(level == 0, levels[0], levels[1]).double() / 255
    runs = [mean_terms(model, x, seed=seed) for seed in range(12)]
    total = sum(sum(terms.values()) for terms in runs) / len(runs)
    assert total == pytest.approx(math.log(2), rel=0.01)
    assert float(bits_per_dimension(torch.tensor(total), 1)) == pytest.approx(1.0, rel=0.01)
    assert max(terms["reconstruction"] for terms in runs) < 1e-6


def test_discrete_time_converges_to_continuous_time_from_above():
    model, x = gaussian_model(FixedLinearGamma(LOW, HIGH).double(), STD), gaussian_data(STD, 50_000)
    limit = mean_terms(model, x)
    # the same times and noise: what differs is the discretisation
    excess = {}
    for steps in (10, 100, 1000, 10_000):
        terms = mean_terms(model, x, VariationalBound(steps))
        assert terms["latent"] == limit["latent"]
        assert terms["reconstruction"] == limit["reconstruction"]
        excess[steps] = terms["diffusion"] / limit["diffusion"] - 1
    assert excess[10] > excess[100] > excess[1000]
    assert 0 < excess[1000] < 0.01
    assert abs(excess[10_000]) < 0.0015


@pytest.mark.parametrize("steps", [1, 3, 1000])
def test_the_discrete_term_against_the_sum_of_kls(steps):
    factor = 0.7  # not the best score: the identity holds for any
    model = gaussian_model(bent(11), STD, factor)
    x = gaussian_data(STD, 1, seed=3).expand(40_000 if steps < 10 else 100_000, -1)
    estimate = mean_terms(model, x, VariationalBound(steps), seed=5)["diffusion"]
    gammas = model.gamma(torch.arange(steps + 1, dtype=torch.float64) / steps).detach()
    expected = sum(_kl_of_step(x[0], gammas[i], gammas[i - 1], factor) for i in range(1, steps + 1))
    assert estimate == pytest.approx(expected, rel=0.01)


def _kl_of_step(x: torch.Tensor, gamma_t: torch.Tensor, gamma_s: torch.Tensor, factor: float) -> float:
    """E KL(q(z_s | z_t, x) || p(z_s | z_t)) from the posterior's mean and variance, by Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(20)
    eps = torch.from_numpy(nodes)[:, None]
    (alpha_t, sigma_t), (alpha_s, sigma_s) = alpha_sigma(gamma_t), alpha_sigma(gamma_s)
    alpha_ts = alpha_t / alpha_s
    variance_ts = sigma_t**2 - alpha_ts**2 * sigma_s**2
    z_t = alpha_t * x + sigma_t * eps
    x_hat = (z_t - sigma_t * factor * sigma_t * z_t / (alpha_t**2 * STD**2 + sigma_t**2)) / alpha_t
    scale = (variance_ts * sigma_s**2 / sigma_t**2).sqrt()

    def posterior(of: torch.Tensor) -> torch.distributions.Normal:
        mean = alpha_ts * sigma_s**2 / sigma_t**2 * z_t + alpha_s * variance_ts / sigma_t**2 * of
        return torch.distributions.Normal(mean, scale)

    kl = torch.distributions.kl_divergence(posterior(x), posterior(x_hat)).sum(1)
    return float((kl * torch.from_numpy(weights)).sum() / math.sqrt(2 * math.pi))


def test_the_continuous_term_against_numerical_integration():
    factor, x = 0.7, gaussian_data(STD, 1, seed=3)
    gamma = bent(8)
    estimate = mean_terms(gaussian_model(gamma, STD, factor), x.expand(200_000, -1), seed=6)["diffusion"]
    grid = torch.linspace(LOW, HIGH, 20_001, dtype=torch.float64)
    alpha, sigma = (scale[:, None] for scale in alpha_sigma(grid))
    gain = factor * sigma / (alpha**2 * STD**2 + sigma**2)  # eps_hat = gain z
    squared = (1 - gain * sigma) ** 2 + (gain * alpha * x) ** 2  # E (eps - eps_hat)^2
    expected = float(0.5 * torch.trapezoid(squared.sum(1), grid))
    assert estimate == pytest.approx(expected, rel=0.01)


def test_the_latent_term_against_kl_divergence_and_monte_carlo():
    x = gaussian_data(STD, 5)
    for high in (8.0, 1.0, 30.0):
        model = gaussian_model(FixedLinearGamma(-8.0, high).double(), STD)
        latent = VariationalBound()(model, x)["latent"]
        alpha, sigma = alpha_sigma(torch.tensor(high, dtype=torch.float64))
        q = torch.distributions.Normal(alpha * x, sigma.expand_as(x))
        p = torch.distributions.Normal(torch.zeros_like(x), torch.ones_like(x))
        torch.testing.assert_close(
            latent, torch.distributions.kl_divergence(q, p).sum(1), rtol=1e-9 if high < 30 else 1e-2, atol=1e-15
        )
        if high == 1.0:
            z = q.sample((200_000,))
            drawn = (q.log_prob(z) - p.log_prob(z)).sum(-1).mean(0)
            torch.testing.assert_close(latent, drawn, rtol=0.01, atol=0.003)


def test_the_latent_term_keeps_its_digits_in_float32():
    x = gaussian_data(STD, 3)
    for high in (5.0, 13.3):
        exact = VariationalBound()(gaussian_model(FixedLinearGamma(-8.0, high).double(), STD), x)["latent"]
        single = VariationalBound()(gaussian_model(FixedLinearGamma(-8.0, high), STD.float()), x.float())["latent"]
        torch.testing.assert_close(single.double(), exact, rtol=1e-4, atol=0)


@pytest.mark.parametrize("gamma_0", [-11.0, -9.0, -4.0])
def test_the_reconstruction_term_against_quadrature(gamma_0):
    model = two_level_model(FixedLinearGamma(gamma_0, 5.0).double(), (64, 192), torch.float64)
    x = torch.full((300_000 if gamma_0 < -5 else 20_000, 1, 1, 1), 64 / 255, dtype=torch.float64)
    estimate = mean_terms(model, x, seed=7)["reconstruction"]
    # fine trapezoid over eps of -log p(x | z_0), all 256 levels
    eps = torch.linspace(-8, 8, 20_001, dtype=torch.float64)
    levels = 2 * (torch.arange(256, dtype=torch.float64) + 0.5) / 256 - 1
    z = levels[64] + math.exp(0.5 * gamma_0) * eps
    log_p = torch.log_softmax(-0.5 * math.exp(-gamma_0) * (z[:, None] - levels) ** 2, dim=1)[:, 64]
    density = torch.exp(-0.5 * eps**2) / math.sqrt(2 * math.pi)
    expected = float(torch.trapezoid(-log_p * density, eps))
    assert estimate == pytest.approx(expected, rel=0.01)


def test_antithetic_times_are_uniform_and_evenly_spread():
    class Recorder(torch.nn.Module):
        seen: list

        def forward(self, z_t, gamma_t, class_labels=None):
            self.seen.append(gamma_t.clone())
            return z_t

    model = gaussian_model(FixedLinearGamma(0.0, 1.0).double(), STD)
    model.score = Recorder()
    for bound, spread in ((VariationalBound(), True), (VariationalBound(antithetic=False), False)):
        model.score.seen = []
        for seed in range(200):
            bound(model, gaussian_data(STD, 8), generator=random(seed))
        times = torch.stack(model.score.seen)  # gamma(t) = t
        gaps = times.sort(dim=1).values.diff(dim=1)
        assert bool(((gaps - 1 / 8).abs() < 1e-6).all()) is spread
        first = times[:, 0]
        assert float(first.mean()) == pytest.approx(0.5, abs=0.08)
        assert float(first.std()) == pytest.approx(math.sqrt(1 / 12), abs=0.04)
    model.score.seen = []
    VariationalBound(times=4)(model, gaussian_data(STD, 8))
    own = model.score.seen[0].reshape(4, 8).sort(dim=0).values.diff(dim=0)
    torch.testing.assert_close(own, torch.full_like(own, 0.25))


def test_antithetic_times_lower_the_variance_of_the_batch():
    std = STD.repeat(16)
    model, x = gaussian_model(FixedLinearGamma(LOW, HIGH).double(), std), gaussian_data(std, 16)
    spread = {}
    for antithetic in (True, False):
        bound = VariationalBound(antithetic=antithetic)
        drawn = [mean_terms(model, x, bound, seed)["diffusion"] for seed in range(200)]
        spread[antithetic] = float(torch.tensor(drawn).std())
    assert spread[True] < 0.7 * spread[False]


@pytest.mark.parametrize("steps", [None, 50])
def test_variance_minimisation_gives_the_shape_the_gradient_of_the_square_and_nothing_else(steps):
    model, x = gaussian_model(bent(5), STD, 0.8), gaussian_data(STD, 16)
    shape = [p for n, p in model.gamma.named_parameters() if not n.startswith("gamma_")]
    ends = [model.gamma.gamma_min, model.gamma.gamma_max]
    plain = VariationalBound(steps, minimise_variance=False)

    def diffusion(bound):
        return bound(model, x, generator=random(9))["diffusion"]

    of_square = torch.autograd.grad((diffusion(plain) ** 2 / len(STD)).mean(), shape)
    of_bound = torch.autograd.grad(diffusion(plain).mean(), ends)
    scaled = VariationalBound(steps, minimise_variance=True)
    torch.testing.assert_close(diffusion(scaled), diffusion(plain))
    got = torch.autograd.grad(diffusion(scaled).mean(), shape + ends)
    for one, expected in zip(got, (*of_square, *of_bound)):
        torch.testing.assert_close(one, expected)
    assert any(float(gradient.abs().max()) > 1e-6 for gradient in of_square)


def test_a_learned_schedule_has_less_variance_than_the_fixed_linear_one():
    x = gaussian_data(STD, 4096)
    torch.manual_seed(0)
    gamma = MonotoneGamma(LOW, HIGH, 64, learn_endpoints=False).double()
    learned = gaussian_model(gamma, STD)
    optimizer = torch.optim.Adam(gamma.parameters(), lr=0.03)
    for step in range(150):
        optimizer.zero_grad()
        VariationalBound()(learned, x[step % 8 :: 8], generator=random(step))["diffusion"].mean().backward()
        optimizer.step()
    fixed = gaussian_model(FixedLinearGamma(LOW, HIGH).double(), STD)
    with torch.no_grad():
        drawn = {
            name: VariationalBound()(m, x, generator=random(1))["diffusion"]
            for name, m in (("learned", learned), ("fixed", fixed))
        }
    assert float(drawn["learned"].var()) < 0.6 * float(drawn["fixed"].var())
    assert float(drawn["learned"].mean()) == pytest.approx(float(drawn["fixed"].mean()), rel=0.05)


def test_learned_endpoints_follow_the_bound():
    # with the best score, a lower gamma(0) and a higher gamma(1) bring the bound nearer to the entropy
    model = gaussian_model(Gamma(-1.0, 1.0).double(), STD)
    x = gaussian_data(STD, 20_000)
    before = mean_terms(model, x)
    terms = VariationalBound()(model, x, generator=random())
    sum(terms[name] for name in TERMS).mean().backward()
    assert float(model.gamma.gamma_max.grad) < 0
    with torch.no_grad():
        model.gamma.gamma_max += 4
    after = mean_terms(model, x)
    assert gaussian_entropy(STD) < sum(after.values()) + 0.05 < sum(before.values())
