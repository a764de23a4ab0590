"""
Denoising: the loop that takes noise to an image, what a prediction stands for, and the rules for one step.

``denoise`` asks the network at each level, ``to_x0_and_eps`` turns its prediction into estimates of image and noise,
and a step rule makes x_s of x_t. Rules are told both levels, so that none guesses its predecessor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from .schedules import Step

PREDICTION_TYPES = ("epsilon", "sample", "v_prediction")
Noise = Callable[[], Tensor]


def denoise(
    x: Tensor,
    steps: Sequence[Step],
    predict: Callable[[Tensor, Any], Tensor],
    step_rule: StepRule,
    noise: Noise,
    prediction_type: str = "epsilon",
    clip: bool = False,
    noise_scale: float = 1.0,
    known: tuple[Tensor, Tensor] | None = None,
) -> Iterator[tuple[Step, Tensor]]:
    """
    Take ``x`` from the first to the last level.

    Args:
        x: x_t at the first level, (N, C, *spatial) or (N, *latent), float.
        steps: the levels, each step's s the next one's t.
        predict: called as ``predict(x_t, t)``; the network's output, like ``x``.
        step_rule: how x_t becomes x_s.
        noise: draws standard normal noise like ``x``.
        prediction_type: what ``predict`` returns: "epsilon", "sample" or "v_prediction".
        clip: limit x0_hat to [-1, 1] in every step.
        noise_scale: what eps_hat in x_s is multiplied by, in every step but the last to a clean image.
        known: an image like ``x`` and the share of the steps, from the first on, in which each of its pixels is known,
            of a shape that broadcasts to it. There the estimate is the image itself, so that x_s is its noisy version,
            and the last one the image where the share is 1; the rest is drawn to fit it.

    Yields:
        Each step with its x_s.

    Raises:
        RuntimeError: when ``predict`` returns NaN or infinity, with the step.

    Source: Med-DDPM, Algorithm 2; Kingma et al. 2021 (VDM), section 3.3; Karras et al. 2022 (EDM), section 4 (scale);
        Song et al. 2021 (score SDE), appendix I.2 (known region); Levin & Fried 2023 (shares of the steps).
    """
    state = None
    for number, step in enumerate(steps, start=1):
        prediction = predict(x, step.t)
        if not bool(torch.isfinite(prediction).all()):
            raise RuntimeError(
                f"The network predicted NaN or infinity in step {number} of {len(steps)} (t = {step.t:.4g}). "
                "Check its weights and precision."
            )
        x0_hat, eps_hat = to_x0_and_eps(prediction, x, step.alpha_bar_t, prediction_type, clip)
        if known is not None:
            x0_hat = torch.where(known[1] > (number - 1) / len(steps), known[0], x0_hat)
            eps_hat = (x - step.alpha_bar_t**0.5 * x0_hat) / (1 - step.alpha_bar_t) ** 0.5
        x, state = step_rule(x, x0_hat, eps_hat, step, noise, state)
        if noise_scale != 1:
            x = x + (noise_scale - 1) * (1 - step.alpha_bar_s) ** 0.5 * eps_hat
        yield step, x


def to_x0_and_eps(
    prediction: Tensor, x_t: Tensor, alpha_bar_t: float, prediction_type: str, clip: bool = False
) -> tuple[Tensor, Tensor]:
    """
    The estimates of the clean image and of the noise that a prediction stands for.

    Args:
        prediction: the network's output, (N, C, *spatial).
        x_t: the noisy image it was made from, the same shape.
        alpha_bar_t: alpha_bar at the noise level of ``x_t``, in (0, 1).
        prediction_type: "epsilon", "sample" or "v_prediction".
        clip: limit x0_hat to [-1, 1]; eps_hat is then the noise that leads from the limited x0_hat to ``x_t``.

    Returns:
        x0_hat and eps_hat with x_t = sqrt(alpha_bar_t) x0_hat + sqrt(1 - alpha_bar_t) eps_hat.

    Raises:
        ValueError: for an unknown prediction type.

    Source: Ho et al. 2020, eq. 15 (epsilon); Salimans & Ho 2022, appendix D (v).
    """
    alpha, sigma = alpha_bar_t**0.5, (1 - alpha_bar_t) ** 0.5
    if prediction_type == "epsilon":
        x0_hat, eps_hat = (x_t - sigma * prediction) / alpha, prediction
    elif prediction_type == "sample":
        x0_hat, eps_hat = prediction, (x_t - alpha * prediction) / sigma
    elif prediction_type == "v_prediction":
        x0_hat, eps_hat = alpha * x_t - sigma * prediction, sigma * x_t + alpha * prediction
    else:
        raise ValueError(f"prediction_type must be one of {PREDICTION_TYPES}, got {prediction_type!r}.")
    if clip:
        x0_hat = x0_hat.clamp(-1, 1)
        eps_hat = (x_t - alpha * x0_hat) / sigma
    return x0_hat, eps_hat


def prediction_of(x0: Tensor, x_t: Tensor, alpha_bar_t: float, prediction_type: str) -> Tensor:
    """
    What a network predicts that knows the clean image: the inverse of ``to_x0_and_eps``, whose arguments these are.

    >>> prediction_of(torch.zeros(1), torch.ones(1), 0.75, "epsilon")
    tensor([2.])
    """
    alpha, sigma = alpha_bar_t**0.5, (1 - alpha_bar_t) ** 0.5
    of = {"epsilon": (x_t - alpha * x0) / sigma, "sample": x0, "v_prediction": (alpha * x_t - x0) / sigma}
    return of[prediction_type]


class StepRule(Protocol):
    """
    One step from noise level t to s; a rule holds options only, so one object serves any number of runs.

    ``state`` is what the rule returned for the previous step of the same run, None for the first. ``noise`` draws
    standard normal noise of the shape of ``x_t`` and is called only where the rule is random.

    >>> class Clean:  # a rule of one's own: all the way to the estimate
    ...     def __call__(self, x_t, x0_hat, eps_hat, step, noise, state=None):
    ...         return x0_hat, None
    >>> *_, (step, image) = denoise(torch.ones(2), [Step(9, -1, 0.5, 1.0)], lambda x, t: 0 * x, Clean(), torch.rand)
    >>> image
    tensor([1.4142, 1.4142])
    """

    def __call__(
        self, x_t: Tensor, x0_hat: Tensor, eps_hat: Tensor, step: Step, noise: Noise, state: Any = None
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

    >>> x, step = torch.ones(2), Step(9, -1, 0.5, 1.0)
    >>> Ancestral()(2 * x, x, x, step, noise=lambda: x)[0]
    tensor([1., 1.])
    """

    def __init__(self, variance: str = "beta_tilde") -> None:
        if variance not in ("beta_tilde", "beta"):
            raise ValueError(f"variance must be 'beta_tilde' or 'beta', got {variance!r}.")
        self.variance = variance

    def __call__(
        self, x_t: Tensor, x0_hat: Tensor, eps_hat: Tensor, step: Step, noise: Noise, state: Any = None
    ) -> tuple[Tensor, Any]:
        """Returns x_s and no state."""
        alpha_bar_t, alpha_bar_s = step.alpha_bar_t, step.alpha_bar_s
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

    >>> x, step = torch.ones(2), Step(9, 4, 0.5, 0.64)
    >>> DDIM()(2 * x, x, x, step, noise=lambda: x)[0]
    tensor([1.4000, 1.4000])
    """

    def __init__(self, eta: float = 0.0) -> None:
        if not 0 <= eta <= 1:
            raise ValueError(f"eta must lie in [0, 1], got {eta}.")
        self.eta = eta

    def __call__(
        self, x_t: Tensor, x0_hat: Tensor, eps_hat: Tensor, step: Step, noise: Noise, state: Any = None
    ) -> tuple[Tensor, Any]:
        """Returns x_s and no state."""
        alpha_bar_t, alpha_bar_s = step.alpha_bar_t, step.alpha_bar_s
        beta_tilde = (1 - alpha_bar_s) / (1 - alpha_bar_t) * (1 - alpha_bar_t / alpha_bar_s)
        sigma = self.eta * beta_tilde**0.5  # eq. 16
        x_s = alpha_bar_s**0.5 * x0_hat + max(1 - alpha_bar_s - sigma**2, 0.0) ** 0.5 * eps_hat  # eq. 12
        if sigma > 0:
            x_s = x_s + sigma * noise()
        return x_s, None

    @staticmethod
    def x0_between(x_t: Tensor, x_s: Tensor, step: Step) -> Tensor:
        """The x0_hat with which the step without noise leads from x_t to x_s (Salimans & Ho 2022, Algorithm 2)."""
        ratio = ((1 - step.alpha_bar_s) / (1 - step.alpha_bar_t)) ** 0.5
        return (x_s - ratio * x_t) / (step.alpha_bar_s**0.5 - ratio * step.alpha_bar_t**0.5)


class Memory(NamedTuple):
    """
    The previous step of a multistep rule.

    Args:
        x0_hat: its estimate of the clean image.
        h: its length in half log-SNR.

    >>> Memory(torch.zeros(1), 0.5).h
    0.5
    """

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

    >>> rule, x = DPMSolverPP2M(), torch.ones(2)
    >>> x_s, memory = rule(2 * x, x, x, Step(9, 4, 0.5, 0.8), noise=lambda: x)
    >>> rule(x_s, 0.9 * x, x, Step(4, -1, 0.8, 1.0), noise=lambda: x, state=memory)[0]
    tensor([0.9000, 0.9000])
    """

    def __init__(self, min_log_snr: float = -5.1) -> None:
        self.min_log_snr = min_log_snr

    def __call__(
        self, x_t: Tensor, x0_hat: Tensor, eps_hat: Tensor, step: Step, noise: Noise, state: Memory | None = None
    ) -> tuple[Tensor, Memory]:
        """Returns x_s and the memory for the next step."""
        alpha_bar_t, alpha_bar_s = step.alpha_bar_t, step.alpha_bar_s
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
