"""From what the network predicts to the two things that a step rule needs: x0_hat and eps_hat."""

from __future__ import annotations

from torch import Tensor

PREDICTION_TYPES = ("epsilon", "sample", "v_prediction")


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
