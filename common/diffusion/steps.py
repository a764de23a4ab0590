"""
Step rules: how x_t becomes x_s, one noise level nearer to the clean image.

The levels are listed once by ``step_pairs`` and each rule is told both t and s, so that no rule guesses its
predecessor. alpha_bar_t and alpha_bar_s are Python floats (float64); alpha_bar_s = 1 is the clean image.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

SPACINGS = ("logsnr", "trailing", "linspace")
# Half log-SNR log(alpha / sigma) below which "logsnr" places no level but the first: there x_t is noise to the eye, and
# cosine schedules would spend a third of the steps on it.
_MIN_LEVEL = -3.0


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
    if not 1 <= steps <= total:
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


class StepRule(Protocol):
    """
    One step from noise level t to s; a rule holds options only, so one object serves any number of runs.

    ``state`` is what the rule returned for the previous step of the same run, None for the first. ``noise`` draws
    standard normal noise of the shape of ``x_t`` and is called only where the rule is random.
    """

    def __call__(
        self,
        x_t: Tensor,
        x0_hat: Tensor,
        eps_hat: Tensor,
        alpha_bar_t: float,
        alpha_bar_s: float,
        noise: Callable[[], Tensor],
        state: Any = None,
    ) -> tuple[Tensor, Any]:
        """Returns x_s and the state for the next step."""
        ...


class Ancestral:
    """
    Draw x_s from the posterior q(x_s | x_t, x0_hat), as the papers do; the last step to the clean image has no noise.

    Args:
        variance: "beta_tilde" (the posterior's own, right for data of no spread) or "beta" (beta_{t|s}, right for
            standard normal data, and much too noisy in few steps).

    Raises:
        ValueError: for another variance.

    Source: Ho et al. 2020, eq. 6, 7 and section 3.2, with beta_{t|s} = 1 - alpha_bar_t / alpha_bar_s for s < t - 1.
    """

    def __init__(self, variance: str = "beta_tilde") -> None:
        if variance not in ("beta_tilde", "beta"):
            raise ValueError(f"variance must be 'beta_tilde' or 'beta', got {variance!r}.")
        self.variance = variance

    def __call__(
        self,
        x_t: Tensor,
        x0_hat: Tensor,
        eps_hat: Tensor,
        alpha_bar_t: float,
        alpha_bar_s: float,
        noise: Callable[[], Tensor],
        state: Any = None,
    ) -> tuple[Tensor, Any]:
        """Returns x_s and no state."""
        alpha_ts = alpha_bar_t / alpha_bar_s
        beta_ts = 1 - alpha_ts
        of_x0 = alpha_bar_s**0.5 * beta_ts / (1 - alpha_bar_t)  # eq. 7
        of_xt = alpha_ts**0.5 * (1 - alpha_bar_s) / (1 - alpha_bar_t)
        x_s = of_x0 * x0_hat + of_xt * x_t
        if alpha_bar_s < 1:
            beta_tilde = (1 - alpha_bar_s) / (1 - alpha_bar_t) * beta_ts
            x_s = x_s + (beta_tilde if self.variance == "beta_tilde" else beta_ts) ** 0.5 * noise()
        return x_s, None


class DDIM:
    """
    The implicit step: no noise for ``eta`` = 0, the ancestral step with beta_tilde for ``eta`` = 1.

    Args:
        eta: share of the ancestral standard deviation, in [0, 1].

    Raises:
        ValueError: for ``eta`` outside [0, 1].

    Source: Song et al. 2021 (DDIM), eq. 12 and 16.
    """

    def __init__(self, eta: float = 0.0) -> None:
        if not 0 <= eta <= 1:
            raise ValueError(f"eta must lie in [0, 1], got {eta}.")
        self.eta = eta

    def __call__(
        self,
        x_t: Tensor,
        x0_hat: Tensor,
        eps_hat: Tensor,
        alpha_bar_t: float,
        alpha_bar_s: float,
        noise: Callable[[], Tensor],
        state: Any = None,
    ) -> tuple[Tensor, Any]:
        """Returns x_s and no state."""
        beta_tilde = (1 - alpha_bar_s) / (1 - alpha_bar_t) * (1 - alpha_bar_t / alpha_bar_s)
        sigma = self.eta * beta_tilde**0.5  # eq. 16
        x_s = alpha_bar_s**0.5 * x0_hat + max(1 - alpha_bar_s - sigma**2, 0.0) ** 0.5 * eps_hat  # eq. 12
        if sigma > 0:
            x_s = x_s + sigma * noise()
        return x_s, None


class Memory(NamedTuple):
    """The previous step of a multistep rule: its x0_hat and the length h of the step in half log-SNR."""

    x0_hat: Tensor
    h: float


class DPMSolverPP2M:
    """
    DPM-Solver++(2M): second order from the x0_hat of this step and the last; first order in the first step, and in the
    last one where that ends without noise.

    Args:
        min_log_snr: lower limit of the half log-SNR lambda = log(alpha / sigma), where cosine schedules run to minus
            infinity and a step length in lambda loses its meaning.

    Source: Lu et al. 2022 (DPM-Solver++), Algorithm 2; the limit -5.1 for cosine schedules is the authors'.
    """

    def __init__(self, min_log_snr: float = -5.1) -> None:
        self.min_log_snr = min_log_snr

    def __call__(
        self,
        x_t: Tensor,
        x0_hat: Tensor,
        eps_hat: Tensor,
        alpha_bar_t: float,
        alpha_bar_s: float,
        noise: Callable[[], Tensor],
        state: Memory | None = None,
    ) -> tuple[Tensor, Memory]:
        """Returns x_s and the memory for the next step."""
        if alpha_bar_s >= 1:  # h is infinite: extrapolating x0_hat over it would only amplify its error
            return x0_hat, Memory(x0_hat, math.inf)
        h = self._half_log_snr(alpha_bar_s) - self._half_log_snr(alpha_bar_t)
        data = x0_hat
        if state is not None and h > 0 and state.h > 0:
            data = x0_hat + (h / (2 * state.h)) * (x0_hat - state.x0_hat)  # 1 / (2 r), r = h_last / h
        # sigma_s / sigma_t x_t - alpha_s (exp(-h) - 1) data, written without exp(-h) so that no limit enters it
        ratio = ((1 - alpha_bar_s) / (1 - alpha_bar_t)) ** 0.5
        x_s = ratio * x_t + (alpha_bar_s**0.5 - ratio * alpha_bar_t**0.5) * data
        return x_s, Memory(x0_hat, h)

    def _half_log_snr(self, alpha_bar: float) -> float:
        return max(0.5 * math.log(alpha_bar / (1 - alpha_bar)), self.min_log_snr)
