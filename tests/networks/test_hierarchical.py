from __future__ import annotations

import math

import pytest
import torch

from common.inferers.direct import DirectSampler
from common.inferers.tiling import SliceSampler
from common.networks.hierarchical import HierarchicalProbabilisticUNet


@pytest.fixture
def network():
    """Tiny, with weights that draw more than the degraded image."""
    torch.manual_seed(0)
    made = HierarchicalProbabilisticUNet(2, 1, channels=(8, 8, 16), latents=2)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def conditions(n=2, side=16):
    return torch.rand(n, 2, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_draws_depend_on_seed_and_case_and_not_on_the_batch(network):
    x = conditions()
    sampler = DirectSampler(latent=True, num_samples=3, seed=4)
    drawn = sampler(x, network)
    assert drawn.shape == (2, 3, 16, 16)
    torch.testing.assert_close(sampler(x[1:], network), drawn[1:])
    assert not torch.allclose(drawn[:, 0], drawn[:, 1])
    assert not torch.allclose(DirectSampler(latent=True, seed=5)(x, network), drawn[:, :1])


def test_the_divergence_is_that_of_two_gaussians_and_0_for_equal_ladders(network):
    x, y = conditions(), torch.zeros(2, 1, 16, 16)
    terms = network(x, target=y)
    assert float(terms["kl"].min()) > 0
    for ladder in (network.prior, network.posterior):
        for stats in ladder.stats:
            torch.nn.init.zeros_(stats.weight)
            torch.nn.init.zeros_(stats.bias)
    assert network(x, target=y)["kl"].tolist() == [0, 0]
    with torch.no_grad():
        network.posterior.stats[0].bias[0] = 2.0  # a mean of 2: 2^2 / 2 nats for each of the 4 x 4 latents
    torch.testing.assert_close(network(x, target=y)["kl"], torch.full((2,), 2.0 * 16 / 256))


def test_the_error_is_that_of_what_the_posteriors_latents_decode_to(network):
    x, y = conditions(), torch.rand(2, 1, 16, 16)
    torch.manual_seed(0)
    error = network(x, target=y)["reconstruction"]
    torch.manual_seed(0)
    seen = network.posterior.encode(torch.cat([x, y], dim=1))
    latents = network.posterior.climb(seen, None, None)[2]
    features = network.prior.encode(x)
    image = network._decoded(x, features, network.prior.climb(features, latents, None)[0])
    torch.testing.assert_close(error, (image - y).abs().flatten(1).mean(1))


def test_everything_is_trained(network):
    network(conditions(), target=torch.rand(2, 1, 16, 16))["reconstruction"].sum().backward()
    left = {name for name, p in network.named_parameters() if p.grad is None}
    assert left == {n for n, _ in network.named_parameters() if n.startswith("prior.stats")}, "by the divergence alone"
    sum(term.sum() for term in network(conditions(), target=torch.rand(2, 1, 16, 16)).values()).backward()
    assert all(p.grad is not None for p in network.parameters())


def test_bad_options(network):
    with pytest.raises(ValueError, match="1 to 2 latents fit 3 levels"):
        HierarchicalProbabilisticUNet(2, channels=(8, 8, 8), latents=3)
    with pytest.raises(ValueError, match="whole images"):
        SliceSampler(DirectSampler(latent=True), tile=16)
    with pytest.raises(ValueError, match="num_samples must be 1 here, got 2"):
        DirectSampler(num_samples=2)
    with pytest.raises(ValueError, match="num_samples must be 1 or more here, got 0"):
        DirectSampler(latent=True, num_samples=0)


def test_the_divergence_is_bounded_where_a_prior_would_be_as_narrow_as_a_point(network):
    """Without a bound it is 10^7 nats a pixel, and one such batch undoes a training."""
    x = conditions()
    with torch.no_grad():
        for stats in network.prior.stats:
            stats.bias[len(stats.bias) // 2 :] = -1000.0
    densities = network.prior.climb(network.prior.encode(x), None, None)[1]
    assert [float(density.stddev.min()) for density in densities] == pytest.approx([math.exp(-3)] * 2, rel=1e-3)
    assert 0 < float(network(x, target=torch.ones(2, 1, 16, 16))["kl"].max()) < 1000
