"""Noise schedules of discrete-time diffusion: beta_t and alpha_bar_t, in float64, with t = 0 the least noisy step."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

MAX_BETA = 0.999


def linear_betas(num_train_timesteps: int, beta_start: float = 1e-4, beta_end: float = 0.02) -> Tensor:
    """beta_t rising linearly, (T,) float64 (Ho et al. 2020, section 4)."""
    return torch.linspace(beta_start, beta_end, num_train_timesteps, dtype=torch.float64)


def scaled_linear_betas(num_train_timesteps: int, beta_start: float = 1e-4, beta_end: float = 0.02) -> Tensor:
    """beta_t whose square root rises linearly, (T,) float64 (Rombach et al. 2022)."""
    return torch.linspace(beta_start**0.5, beta_end**0.5, num_train_timesteps, dtype=torch.float64) ** 2


def cosine_betas(num_train_timesteps: int, s: float = 0.008) -> Tensor:
    """beta_t of the squared-cosine alpha_bar, at most 0.999, (T,) float64 (Nichol & Dhariwal 2021, eq. 17)."""
    t = torch.linspace(0, 1, num_train_timesteps + 1, dtype=torch.float64)
    f = torch.cos((t + s) / (1 + s) * math.pi / 2) ** 2
    return (1 - f[1:] / f[:-1]).clamp(max=MAX_BETA)


_BETAS: dict[str, Callable[..., Tensor]] = {
    "linear": linear_betas,
    "scaled_linear": scaled_linear_betas,
    "cosine": cosine_betas,
}


class NoiseSchedule:
    """
    alpha_bar_t of a forward process q(x_t | x_0) = N(sqrt(alpha_bar_t) x_0, (1 - alpha_bar_t) I).

    Has MONAI's ``Scheduler`` methods that training calls (``add_noise``, ``get_velocity``), so that it serves MONAI's
    ``DiffusionInferer`` and ``VPredictionPrepareBatch``; MONAI's own classes hold the tables in float32 and cast them
    in place.

    Args:
        schedule: "linear", "scaled_linear" or "cosine".
        num_train_timesteps: T, at least 1.
        kwargs: of the schedule: ``beta_start`` and ``beta_end``, or ``s``.

    Raises:
        ValueError: for an unknown schedule, T < 1, or a beta outside (0, 1).
    """

    def __init__(self, schedule: str = "cosine", num_train_timesteps: int = 250, **kwargs: float) -> None:
        if schedule not in _BETAS:
            raise ValueError(f"schedule must be one of {sorted(_BETAS)}, got {schedule!r}.")
        if num_train_timesteps < 1:
            raise ValueError(f"num_train_timesteps must be at least 1, got {num_train_timesteps}.")
        self.schedule = schedule
        self.num_train_timesteps = num_train_timesteps
        self.betas = _BETAS[schedule](num_train_timesteps, **kwargs)
        if not bool(((self.betas > 0) & (self.betas < 1)).all()):
            raise ValueError(f"Every beta must lie in (0, 1), got {self.betas.min():g} to {self.betas.max():g}.")
        self.alpha_bar = torch.cumprod(1 - self.betas, 0)

    def coefficients(self, timesteps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """sqrt(alpha_bar_t) and sqrt(1 - alpha_bar_t) for (N,) ``timesteps``, each (N, 1, ...) to multiply ``like``."""
        alpha_bar = self.alpha_bar.to(timesteps.device)[timesteps].reshape(-1, *[1] * (like.ndim - 1))
        return alpha_bar.sqrt().to(like), (1 - alpha_bar).sqrt().to(like)

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps, shaped as ``original_samples`` (Med-DDPM eq. 1)."""
        alpha, sigma = self.coefficients(timesteps, original_samples)
        return alpha * original_samples + sigma * noise

    def get_velocity(self, sample: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """v_t = sqrt(alpha_bar_t) eps - sqrt(1 - alpha_bar_t) x_0 (Salimans & Ho 2022, appendix D)."""
        alpha, sigma = self.coefficients(timesteps, sample)
        return alpha * noise - sigma * sample
