"""Data whose best score network, entropy and bound are known in closed form."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from common.networks.gamma import Gamma, alpha_sigma
from common.networks.pixel_codec import PixelCodec
from common.networks.vdm import VariationalDiffusionModel

STD = torch.tensor([0.5, 1.0, 2.0, 3.0], dtype=torch.float64)
LOW, HIGH = -8.0, 8.0  # endpoints of gamma


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class GaussianScore(nn.Module):
    """The mean of eps given z_t, for data N(0, std^2); ``factor`` makes it a bad one."""

    def __init__(self, std: Tensor, factor: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("std", std)
        self.factor = factor

    def forward(self, z_t: Tensor, gamma_t: Tensor, class_labels: Tensor | None = None) -> Tensor:
        alpha, sigma = (scale[:, None] for scale in alpha_sigma(gamma_t))
        return self.factor * sigma * z_t / (alpha**2 * self.std**2 + sigma**2)


class GaussianCodec(nn.Module):
    """f = x, and p(x | z_0) the exact posterior of x, for data N(0, std^2)."""

    def __init__(self, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("std", std)

    def latent_shape(self, image_size):
        return (len(self.std),)

    def forward(self, x: Tensor) -> Tensor:
        return x

    def log_likelihood(self, x: Tensor, z: Tensor, gamma_0: Tensor) -> Tensor:
        variance = 1 / (1 / self.std**2 + torch.exp(-gamma_0))
        mean = variance * z * torch.exp(-gamma_0)
        return torch.distributions.Normal(mean, variance.sqrt()).log_prob(x).sum(1)

    def image(self, z: Tensor, gamma_0: Tensor) -> Tensor:
        return z


def gaussian_model(gamma: Gamma, std: Tensor, factor: float = 1.0) -> VariationalDiffusionModel:
    return VariationalDiffusionModel(gamma, GaussianScore(std, factor), GaussianCodec(std))


def gaussian_data(std: Tensor, cases: int, seed: int = 0) -> Tensor:
    return std * torch.randn(cases, len(std), generator=torch.Generator().manual_seed(seed), dtype=std.dtype)


def gaussian_entropy(std: Tensor) -> float:
    """Nats."""
    return float((0.5 * math.log(2 * math.pi * math.e) + std.log()).sum())


def gaussian_diffusion(std: Tensor, low: float, high: float) -> float:
    """The diffusion term in continuous time with the best score: 1/2 sum of Var(eps | z) over gamma, integrated."""

    # Var(eps | z) = alpha^2 std^2 / (alpha^2 std^2 + sigma^2) = 1 / (1 + e^gamma / std^2)
    def integral(gamma: float) -> Tensor:
        return gamma - torch.nn.functional.softplus(gamma - 2 * std.log())

    return float(0.5 * (integral(high) - integral(low)).sum())


class TwoLevelScore(nn.Module):
    """The mean of eps given z_t, for pixels that are one of two grey levels with equal probability."""

    def __init__(self, first: Tensor, second: Tensor) -> None:
        super().__init__()
        self.register_buffer("first", first)
        self.register_buffer("second", second)

    def forward(self, z_t: Tensor, gamma_t: Tensor, class_labels: Tensor | None = None) -> Tensor:
        alpha, sigma = (scale[:, None, None, None] for scale in alpha_sigma(gamma_t))
        distance = (z_t - alpha * self.first).square() - (z_t - alpha * self.second).square()
        of_second = torch.sigmoid(0.5 * distance / sigma**2)
        mean = self.first + of_second * (self.second - self.first)
        return (z_t - alpha * mean) / sigma


def two_level_model(gamma: Gamma, levels: tuple[int, int], dtype: torch.dtype) -> VariationalDiffusionModel:
    """Images of one pixel, of two levels of 0 to 255: their entropy is log 2."""
    codec = PixelCodec()
    first, second = (codec(torch.full((1, 1, 1, 1), level / 255, dtype=dtype)).squeeze() for level in levels)
    return VariationalDiffusionModel(gamma, TwoLevelScore(first, second), codec)
