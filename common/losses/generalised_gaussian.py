"""The loss of UP-GAN: L1, and the likelihood of the error under a generalised Gaussian density of each pixel."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_LOG_ALPHA, _LOG_BETA = (-7.0, 3.0), (math.log(0.2), math.log(8.0))
_LARGEST = math.log(50.0)  # of log(|r| / alpha)^beta; the gradients of outliers explode beyond


def generalised_gaussian_nll(residual: Tensor, log_alpha: Tensor, log_beta: Tensor) -> Tensor:
    """
    Negative log density of a residual: (|r| / alpha)^beta - log beta + log 2 alpha + log Gamma(1 / beta).

    Args:
        residual: any shape.
        log_alpha: logarithm of the scale, limited to [-7, 3].
        log_beta: logarithm of the shape (1 is Laplace, 2 Gauss), limited to the logarithms of 0.2 and 8.

    Returns:
        The same shape, in nats; the first term is limited to 50.

    Source: Upadhyay et al. 2021, eq. 1, without the constant log 2.

    >>> zero = torch.tensor(0.0)
    >>> generalised_gaussian_nll(torch.tensor(1.0), zero, zero)  # Laplace: 1 + log 2
    tensor(1.6931)
    """
    log_alpha, log_beta = log_alpha.clamp(*_LOG_ALPHA), log_beta.clamp(*_LOG_BETA)
    power = log_beta.exp() * (residual.abs().clamp(min=1e-6).log() - log_alpha)
    return power.clamp(max=_LARGEST).exp() - log_beta + math.log(2) + log_alpha + torch.lgamma((-log_beta).exp())


class UncertaintyLoss(nn.Module):
    """
    L1 of the image and likelihood of its error, with weights that move from the one to the other.

    Args:
        phases: (share of a stage's training at which it ends, weight of L1, weight of the likelihood), in order.

    Raises:
        ValueError: when the shares do not rise to 1.

    Source: Upadhyay et al. 2021, section 2; the phases (50, 50 and 150 epochs) are those of the released code.

    >>> loss = UncertaintyLoss()
    >>> loss.set_share(0.3)
    >>> loss.weights
    (0.5, 0.001)
    """

    def __init__(
        self, phases: tuple[tuple[float, float, float], ...] = ((0.2, 1, 1e-4), (0.4, 0.5, 1e-3), (1, 0.1, 1e-2))
    ) -> None:
        super().__init__()
        ends = [end for end, _, _ in phases]
        if ends != sorted(set(ends)) or ends[-1] != 1:
            raise ValueError(f"The shares of the phases must rise to 1, got {ends}.")
        self.phases = phases
        self.set_share(0.0)

    def set_share(self, share: float) -> None:
        """Take the weights for a stage of which ``share``, in [0, 1), is trained."""
        self.weights = next((l1, nll) for end, l1, nll in self.phases if share < end)

    def forward(self, heads: Tensor, target: Tensor) -> Tensor:
        """
        Args:
            heads: image, log alpha and log beta, (N, 3 x C, *spatial).
            target: clean image, (N, C, *spatial).

        Returns:
            A scalar.
        """
        image, log_alpha, log_beta = heads.chunk(3, dim=1)
        l1, nll = self.weights
        likelihood = generalised_gaussian_nll(image - target, log_alpha, log_beta).mean()
        return l1 * (image - target).abs().mean() + nll * likelihood
