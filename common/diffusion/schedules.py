"""
Noise schedules and the noise levels that a sampling run visits.

Discrete-time diffusion has alpha_bar_t in float64, with t = 0 the least noisy step; a variational model has a learned
gamma(t) = -log SNR. Both give a list of ``Step``, so that one loop (``steps.denoise``) serves both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

MAX_BETA = 0.999
SPACINGS = ("logsnr", "trailing", "linspace")
# Half log-SNR log(alpha / sigma) below which "logsnr" places no level but the first: there x_t is noise to the eye, and
# cosine schedules would spend a third of the steps on it.
_MIN_LEVEL = -3.0


class Step(NamedTuple):
    """
    From one noise level to the next: what the network is told, and alpha_bar of both, so that no rule guesses.

    Args:
        t: the level of x_t as the network knows it: the time step, or gamma_t of a variational model.
        s: the level of x_s; -1 is the clean image.
        alpha_bar_t: alpha_bar at t, in (0, 1), a Python float (float64).
        alpha_bar_s: alpha_bar at s, in (0, 1]; 1 is the clean image.

    >>> NoiseSchedule("linear", 1000).steps(2, "trailing")[-1][:2]
    (499, -1)
    """

    t: float
    s: float
    alpha_bar_t: float
    alpha_bar_s: float


def linear_betas(num_train_timesteps: int, beta_start: float = 1e-4, beta_end: float = 0.02) -> Tensor:
    """beta_t rising linearly, (T,) float64 (Ho et al. 2020, section 4)."""
    return torch.linspace(beta_start, beta_end, num_train_timesteps, dtype=torch.float64)


def scaled_linear_betas(num_train_timesteps: int, beta_start: float = 1e-4, beta_end: float = 0.02) -> Tensor:
    """beta_t whose square root rises linearly, (T,) float64 (Rombach et al. 2022)."""
    return torch.linspace(beta_start**0.5, beta_end**0.5, num_train_timesteps, dtype=torch.float64) ** 2


def cosine_betas(num_train_timesteps: int, s: float = 0.008, log_snr_shift: float = 0.0) -> Tensor:
    """
    beta_t of the squared-cosine alpha_bar, at most 0.999, (T,) float64 (Nichol & Dhariwal 2021, eq. 17).

    ``log_snr_shift`` is added to log SNR at every t (Hoogeboom et al. 2023, Simple diffusion, section 3.1). Below 0
    there is more noise: in large volumes of several channels, anatomy shows through the noise of nearly every t
    otherwise, and a network hardly learns to draw it.
    """
    t = torch.linspace(0, 1, num_train_timesteps + 1, dtype=torch.float64)
    f = torch.cos((t + s) / (1 + s) * math.pi / 2) ** 2
    if log_snr_shift:
        f = torch.sigmoid(torch.logit(f / f[0]) + log_snr_shift)
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
        kwargs: of the schedule: ``beta_start`` and ``beta_end``, or ``s`` and ``log_snr_shift``.

    Raises:
        ValueError: for an unknown schedule, T < 1, or a beta outside (0, 1).

    >>> schedule = NoiseSchedule("linear", 1000, beta_start=1e-4, beta_end=0.02)
    >>> print(f"{schedule.alpha_bar[0]:.4f} {schedule.alpha_bar[-1]:.6f}")
    0.9999 0.000040
    """

    def __init__(self, schedule: str = "cosine", num_train_timesteps: int = 250, **kwargs: float) -> None:
        if schedule not in _BETAS:
            raise ValueError(f"schedule must be one of {sorted(_BETAS)}, got {schedule!r}.")
        if num_train_timesteps < 1:
            raise ValueError(f"num_train_timesteps must be at least 1, got {num_train_timesteps}.")
        self.schedule = schedule
        self.num_train_timesteps = num_train_timesteps
        self.settings = {"schedule": schedule, "num_train_timesteps": num_train_timesteps, **kwargs}
        self.betas = _BETAS[schedule](num_train_timesteps, **kwargs)
        if not bool(((self.betas > 0) & (self.betas < 1)).all()):
            raise ValueError(f"Every beta must lie in (0, 1), got {self.betas.min():g} to {self.betas.max():g}.")
        self.alpha_bar = torch.cumprod(1 - self.betas, 0)

    def coefficients(self, timesteps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """sqrt(alpha_bar_t) and sqrt(1 - alpha_bar_t) for (N,) ``timesteps``, each (N, 1, ...) to multiply ``like``."""
        shape, t = (-1, *[1] * (like.ndim - 1)), timesteps.to(like.device)  # of which not all have float64
        return self.alpha_bar.sqrt().to(like)[t].reshape(shape), (1 - self.alpha_bar).sqrt().to(like)[t].reshape(shape)

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps, shaped as ``original_samples`` (Med-DDPM eq. 1)."""
        alpha, sigma = self.coefficients(timesteps, original_samples)
        return alpha * original_samples + sigma * noise

    def get_velocity(self, sample: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """v_t = sqrt(alpha_bar_t) eps - sqrt(1 - alpha_bar_t) x_0 (Salimans & Ho 2022, appendix D)."""
        alpha, sigma = self.coefficients(timesteps, sample)
        return alpha * noise - sigma * sample

    def steps(self, num_inference_steps: int | None = None, spacing: str = "logsnr") -> list[Step]:
        """The steps of a sampling run, see ``step_pairs``; every level for ``num_inference_steps`` None."""
        total = self.num_train_timesteps if num_inference_steps is None else num_inference_steps
        alpha_bar = [*self.alpha_bar.tolist(), 1.0]  # the last, at index -1, is the clean image
        pairs = step_pairs(self.alpha_bar, total, spacing)
        return [Step(t, s, alpha_bar[t], alpha_bar[s]) for t, s in pairs]


def coarsened(steps: Sequence[Step], number: int) -> list[Step]:
    """
    As many levels of a run, each the first of as many of its steps: what a distilled network visits.

    Args:
        steps: of the whole run.
        number: of the steps to return, a divisor of that of ``steps``.

    Raises:
        ValueError: for another number.

    Source: Salimans & Ho 2022 (Progressive distillation), section 3.

    >>> [step[:2] for step in coarsened(NoiseSchedule().steps(4, "linspace"), 2)]
    [(249, 83), (83, -1)]
    """
    if number < 1 or len(steps) % number:
        raise ValueError(f"{len(steps)} steps cannot be taken in {number}: a divisor was expected.")
    groups = [steps[i : i + len(steps) // number] for i in range(0, len(steps), len(steps) // number)]
    return [Step(group[0].t, group[-1].s, group[0].alpha_bar_t, group[-1].alpha_bar_s) for group in groups]


def gamma_steps(gamma: Any, num_inference_steps: int, start: float = 1.0) -> list[Step]:
    """
    The steps of a sampling run with a variational model, at equal strides of time.

    Args:
        gamma: the model's noise schedule, a ``networks.gamma.Gamma``.
        num_inference_steps: N, at least 1, for the whole way from time 1 to 0; a shorter way takes fewer.
        start: time to start from, in [0, 1].

    Returns:
        round(start N) steps, at least one unless ``start`` is 0; the network is told gamma_t.
    """
    steps = max(round(start * num_inference_steps), 1) if start > 0 else 0
    times = torch.linspace(start, 0, steps + 1, device=gamma.endpoints()[0].device)
    levels = [(float(level), float(torch.sigmoid(-level))) for level in gamma(times).cpu().double()]
    return [Step(t, s, alpha_bar_t, alpha_bar_s) for (t, alpha_bar_t), (s, alpha_bar_s) in pairwise(levels)]


def step_pairs(alpha_bar: Tensor, num_inference_steps: int, spacing: str = "logsnr") -> list[tuple[int, int]]:
    """
    The pairs (t, s) of a sampling run, from full noise t = T - 1 to the clean image s = -1 (alpha_bar = 1).

    Args:
        alpha_bar: of the noise schedule, (T,) float64, falling.
        num_inference_steps: N, in [1, T]; N = T visits every step.
        spacing: "logsnr": T - 1, then equal strides of the half log-SNR log(alpha / sigma) down to t = 0 (as near as
            whole t allow); "trailing": equal strides of t; "linspace": equal strides of t from T - 1 to 0, then clean.

    Returns:
        N pairs; each s is the next pair's t.

    Raises:
        ValueError: for N outside [1, T] or an unknown spacing.

    Source: Lu et al. 2022 (DPM-Solver), section 3.3 (logsnr); Lin et al. 2024 (Common Diffusion Noise Schedules and
        Sample Steps are Flawed), table 2 (the others).
    """
    total, steps = len(alpha_bar), num_inference_steps
    if isinstance(steps, str) or not 1 <= steps <= total:
        raise ValueError(f"num_inference_steps must lie in [1, {total}] (the training steps), got {steps}.")
    if spacing == "logsnr":
        levels = _log_snr_levels(alpha_bar, steps)
    elif spacing == "trailing":
        levels = [round(total * (steps - i) / steps) - 1 for i in range(steps)]
    elif spacing == "linspace":
        levels = [round((total - 1) * (1 - i / max(steps - 1, 1))) for i in range(steps)]
    else:
        raise ValueError(f"spacing must be one of {SPACINGS}, got {spacing!r}.")
    return list(zip(levels, levels[1:] + [-1]))


def _log_snr_levels(alpha_bar: Tensor, steps: int) -> list[int]:
    """The levels t whose half log-SNR is nearest to equal strides, falling strictly from T - 1."""
    half_log_snr = 0.5 * torch.logit(alpha_bar.double())
    first = max(float(half_log_snr[-1]), min(_MIN_LEVEL, float(half_log_snr[0])))
    wanted = torch.linspace(first, float(half_log_snr[0]), steps, dtype=torch.float64)
    nearest = (half_log_snr[None] - wanted[:, None]).abs().argmin(1).tolist()
    levels = [len(alpha_bar) - 1]
    for index in range(1, steps):
        remaining = steps - 1 - index
        levels.append(max(min(nearest[index], levels[-1] - 1), remaining))
    return levels
