from __future__ import annotations

import pytest
import torch
from torch import Tensor

from common.diffusion.conversion import PREDICTION_TYPES, to_x0_and_eps


def noisy(alpha_bar: float) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x_0, eps = torch.randn(2, 2, 1, 4, 5, generator=generator, dtype=torch.float64)
    return x_0, eps, alpha_bar**0.5 * x_0 + (1 - alpha_bar) ** 0.5 * eps


@pytest.mark.parametrize("alpha_bar", [0.999, 0.5, 4e-8])
@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_true_prediction_gives_true_image_and_noise(prediction_type: str, alpha_bar: float) -> None:
    x_0, eps, x_t = noisy(alpha_bar)
    v = alpha_bar**0.5 * eps - (1 - alpha_bar) ** 0.5 * x_0
    prediction = {"epsilon": eps, "sample": x_0, "v_prediction": v}[prediction_type]
    x0_hat, eps_hat = to_x0_and_eps(prediction, x_t, alpha_bar, prediction_type)
    assert torch.allclose(x0_hat, x_0, atol=1e-8)
    assert torch.allclose(eps_hat, eps, atol=1e-8)


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_clipping_keeps_image_and_noise_consistent(prediction_type: str) -> None:
    _, _, x_t = noisy(0.3)
    x0_hat, eps_hat = to_x0_and_eps(3 * torch.ones_like(x_t), x_t, 0.3, prediction_type, clip=True)
    assert float(x0_hat.abs().max()) == 1
    assert torch.allclose(0.3**0.5 * x0_hat + 0.7**0.5 * eps_hat, x_t, atol=1e-12)


def test_unknown_prediction_type() -> None:
    with pytest.raises(ValueError, match="prediction_type must be one of"):
        to_x0_and_eps(torch.zeros(1), torch.zeros(1), 0.5, "score")
