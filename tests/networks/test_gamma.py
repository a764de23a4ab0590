from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.networks.gamma import FixedLinearGamma, Gamma, MonotoneGamma, alpha_sigma

SCHEDULES = (FixedLinearGamma, Gamma, MonotoneGamma)


def disturbed(seed: int, spread: float, hidden: int = 64, low: float = -13.3, high: float = 5.0) -> MonotoneGamma:
    """A monotone schedule with weights of any size, as training might leave them."""
    torch.manual_seed(seed)
    gamma = MonotoneGamma(low, high, hidden)
    with torch.no_grad():
        for name, parameter in gamma.named_parameters():
            if name.startswith(("raw", "bias")):
                parameter.add_(spread * torch.randn(parameter.shape))
    return gamma


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    spread=st.floats(0, 30),
    hidden=st.sampled_from([1, 3, 37, 64]),
    low=st.floats(-20, 0),
    width=st.floats(6, 30),  # ten thousand steps of a hundredth of the slope must not drown in float32
)
def test_monotone_with_exact_endpoints_whatever_the_weights(seed, spread, hidden, low, width):
    gamma = disturbed(seed, spread, hidden, low, low + width)
    t = torch.linspace(0, 1, 10_000)
    values = gamma(t)
    assert values.shape == t.shape
    assert torch.equal(values[0], gamma.endpoints()[0])
    assert torch.equal(values[-1], gamma.endpoints()[1])
    assert bool((values.diff() > 0).all())
    # the same two to the bit, whatever they share a batch with
    assert torch.equal(gamma(torch.tensor([0.0, 1.0])), torch.stack(gamma.endpoints()))
    assert torch.equal(gamma(torch.tensor(1.0)), gamma.endpoints()[1])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), spread=st.floats(0, 30))
def test_gradients_are_finite_whatever_the_weights(seed, spread):
    gamma = disturbed(seed, spread)
    t = torch.linspace(0, 1, 101).requires_grad_()
    values = gamma(t)
    (slope,) = torch.autograd.grad(values.sum(), t, create_graph=True)
    assert float(slope.detach().min()) > 0.0099 * 18.3, "the SNR falls strictly"
    (values.sum() + slope.square().sum()).backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in gamma.parameters())


@pytest.mark.parametrize("kind", SCHEDULES)
def test_derivative_against_finite_differences(kind):
    torch.manual_seed(0)
    gamma = kind(-6.0, 4.0).double()
    t = torch.linspace(0.01, 0.99, 50, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(gamma(t).sum(), t)
    step = 1e-5
    expected = (gamma(t.detach() + step) - gamma(t.detach() - step)) / (2 * step)
    torch.testing.assert_close(slope, expected.detach(), rtol=1e-6, atol=1e-6)


def test_the_derivative_integrates_to_the_range():
    gamma = disturbed(3, 2.0).double()
    middles = ((torch.arange(20_000) + 0.5) / 20_000).double().requires_grad_()
    (slope,) = torch.autograd.grad(gamma(middles).sum(), middles)
    assert float(slope.mean()) == pytest.approx(18.3, rel=1e-5)


def test_a_fresh_monotone_schedule_is_nearly_linear_and_can_bend():
    torch.manual_seed(0)
    gamma, t = MonotoneGamma(hidden=128), torch.linspace(0, 1, 101)
    linear = FixedLinearGamma()(t)
    assert float((gamma(t) - linear).detach().abs().max()) < 0.1 * 18.3
    wanted = -13.3 + 18.3 * torch.sigmoid(12 * (t - 0.4))
    optimizer = torch.optim.Adam([p for n, p in gamma.named_parameters() if "gamma" not in n], lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        (gamma(t) - wanted).square().mean().backward()
        optimizer.step()
    assert float((gamma(t) - wanted).detach().square().mean().sqrt()) < 0.5
    assert float(gamma(torch.tensor(0.0))) == pytest.approx(-13.3)
    assert float(gamma(torch.tensor(1.0))) == 5.0


def test_linear_schedules_are_linear_and_only_one_learns():
    t = torch.tensor([[0.25, 0.5]])
    for kind in (FixedLinearGamma, Gamma):
        torch.testing.assert_close(kind(-4.0, 4.0)(t), torch.tensor([[-2.0, 0.0]]))
    assert not list(FixedLinearGamma().parameters())
    assert {name for name, _ in Gamma().named_parameters()} == {"gamma_min", "gamma_max"}
    assert "gamma_min" in FixedLinearGamma().state_dict(), "weights carry the endpoints that they were trained with"


@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.parametrize("ends", [(5.0, -13.3), (1.0, 1.0), (float("nan"), 1.0)])
def test_crossed_endpoints_are_refused(kind, ends):
    with pytest.raises(ValueError, match="endpoints have crossed"):
        kind(*ends)


@pytest.mark.parametrize("kind", [Gamma, MonotoneGamma])
def test_endpoints_that_cross_in_training_are_refused(kind):
    gamma = kind(-1.0, 1.0)
    with torch.no_grad():
        gamma.gamma_min.fill_(1.5)
    with pytest.raises(ValueError, match=r"got 1\.5 and 1"):
        gamma(torch.tensor(0.5))


def test_a_hidden_layer_of_nothing_is_refused():
    with pytest.raises(ValueError, match="hidden must be at least 1"):
        MonotoneGamma(hidden=0)


def test_scales_keep_their_digits_at_both_ends():
    gamma = torch.tensor([-30.0, -13.3, 0.0, 5.0, 30.0])
    alpha, sigma = alpha_sigma(gamma)
    exact = torch.exp(gamma.double())
    torch.testing.assert_close(alpha.double(), (1 / (1 + exact)).sqrt(), rtol=1e-6, atol=0)
    torch.testing.assert_close(sigma.double(), (exact / (1 + exact)).sqrt(), rtol=1e-6, atol=0)


def test_weights_and_copies_give_the_same_schedule():
    torch.manual_seed(0)
    gamma = disturbed(1, 1.0)
    other = MonotoneGamma(-1.0, 1.0, 64)
    other.load_state_dict(gamma.state_dict())
    t = torch.linspace(0, 1, 7)
    assert torch.equal(other(t), gamma(t))
    assert torch.equal(copy.deepcopy(gamma)(t), gamma(t))
