from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import gennorm

from common.losses.generalised_gaussian import UncertaintyLoss, generalised_gaussian_nll


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0, 6.0])
def test_it_is_the_density_of_scipy(beta):
    residual = np.array([-0.4, -0.01, 0.05, 0.3])
    expected = -gennorm.logpdf(residual, beta, scale=0.25)
    sizes = torch.full((4,), 0.25).log(), torch.full((4,), beta).log()
    np.testing.assert_allclose(generalised_gaussian_nll(torch.tensor(residual), *sizes), expected, rtol=1e-4)


def test_its_minimum_tells_scale_and_shape_of_the_error():
    """Fitted to draws of a density, alpha and beta are that density's."""
    residual = torch.tensor(gennorm.rvs(1.5, scale=0.2, size=4000, random_state=0))
    sizes = torch.tensor([-2.0, 0.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([sizes], lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        generalised_gaussian_nll(residual, sizes[0], sizes[1]).mean().backward()
        optimizer.step()
    np.testing.assert_allclose(sizes.detach().exp(), [0.2, 1.5], rtol=0.1)


def test_gradients_are_finite_for_any_heads():
    heads = torch.cat([torch.tensor([1e3, 0.0, -1e3]).reshape(1, 1, 3, 1), torch.full((1, 2, 3, 1), 50.0)], dim=1)
    for sign in (1, -1):
        x = (sign * heads).requires_grad_()
        UncertaintyLoss()(x, torch.zeros(1, 1, 3, 1)).backward()
        assert bool(torch.isfinite(x.grad).all())


def test_weights_move_from_l1_to_the_likelihood():
    loss, seen = UncertaintyLoss(), []
    for share in (0.0, 0.19, 0.2, 0.39, 0.4, 0.99):
        loss.set_share(share)
        seen.append(loss.weights)
    assert seen == [(1, 1e-4)] * 2 + [(0.5, 1e-3)] * 2 + [(0.1, 1e-2)] * 2
    with pytest.raises(ValueError, match="must rise to 1"):
        UncertaintyLoss(((0.5, 1, 1),))
