"""
The noise schedule gamma(t) = -log SNR(t) of a variational diffusion model: linear, fixed linear, learned monotone.

Variance preserving: alpha^2 = sigmoid(-gamma) and sigma^2 = sigmoid(gamma). A schedule is its two endpoints and a
shape u(t) that rises from exactly 0 to exactly 1, so that whatever the shape learns, the endpoints stay the ones that
the reconstruction and the latent term were computed with.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Share of the straight line in a learned shape: gamma' stays above a hundredth of the linear schedule's, so that the
# SNR falls strictly in float32 too.
_LINEAR_SHARE = 0.01


def alpha_sigma(gamma: Tensor) -> tuple[Tensor, Tensor]:
    """
    Scale of the signal and of the noise at ``gamma``.

    Args:
        gamma: -log SNR, any shape, float.

    Returns:
        alpha and sigma, the shape of ``gamma``, alpha^2 + sigma^2 = 1; neither is computed as a difference from 1.

    Source: Kingma et al. 2021 (VDM), eq. 3 to 5.
    """
    return torch.sigmoid(-gamma).sqrt(), torch.sigmoid(gamma).sqrt()


class Gamma(nn.Module):
    """
    gamma(t) between two endpoints, linear in t where a subclass gives no other shape.

    ``gamma(0)`` and ``gamma(1)`` are ``endpoints()`` to the bit.

    Args:
        gamma_min: gamma(0), -log SNR of the least noisy latent.
        gamma_max: gamma(1), of the noisiest.
        learn_endpoints: both are trained.

    Raises:
        ValueError: when ``gamma_min`` is not below ``gamma_max``, here or after training.

    >>> Gamma(-4.0, 4.0)(torch.tensor([0.0, 0.25, 1.0])).tolist()
    [-4.0, -2.0, 4.0]
    """

    gamma_min: Tensor
    gamma_max: Tensor

    def __init__(self, gamma_min: float = -13.3, gamma_max: float = 5.0, learn_endpoints: bool = True) -> None:
        super().__init__()
        for name, value in (("gamma_min", gamma_min), ("gamma_max", gamma_max)):
            tensor = torch.tensor(float(value))
            if learn_endpoints:
                self.register_parameter(name, nn.Parameter(tensor))
            else:
                self.register_buffer(name, tensor)
        self.endpoints()

    def endpoints(self) -> tuple[Tensor, Tensor]:
        """gamma(0) and gamma(1), two scalars; a ValueError when they have crossed or are no numbers."""
        low, high = self.gamma_min, self.gamma_max
        if not bool(low < high):
            raise ValueError(
                f"The noise schedule's endpoints have crossed: gamma_min must be below gamma_max, got "
                f"{float(low):.6g} and {float(high):.6g}. If they were learned, lower the learning rate or fix them."
            )
        return low, high

    def shape(self, t: Tensor) -> Tensor:
        """u(t), the shape of ``t``: exactly 0 at 0, exactly 1 at 1, strictly rising between."""
        return t

    def forward(self, t: Tensor) -> Tensor:
        """
        Args:
            t: time in [0, 1], any shape, float; 0 is the least noisy.

        Returns:
            gamma(t), the shape of ``t``.

        Raises:
            ValueError: when the endpoints have crossed.
        """
        low, high = self.endpoints()
        return torch.lerp(low, high, self.shape(t.to(low)))  # lerp gives both ends without rounding


class FixedLinearGamma(Gamma):
    """
    gamma(t) linear in t, nothing learned.

    Args:
        gamma_min: gamma(0).
        gamma_max: gamma(1).

    Source: Kingma et al. 2021 (VDM), appendix B, whose endpoints for images of 256 levels are the defaults.

    >>> list(FixedLinearGamma().parameters())
    []
    """

    def __init__(self, gamma_min: float = -13.3, gamma_max: float = 5.0) -> None:
        super().__init__(gamma_min, gamma_max, learn_endpoints=False)


class MonotoneGamma(Gamma):
    """
    gamma(t) learned by a monotone network: l1(t) + l3(sigmoid(l2(l1(t)))), all weights positive, then normalised.

    At first nearly linear. Unlike the published code, whose network fixes its endpoints only before training, the
    network's range is divided out in every call.

    Args:
        gamma_min: gamma(0) at first.
        gamma_max: gamma(1) at first.
        hidden: width of l2.
        learn_endpoints: train the endpoints too.

    Raises:
        ValueError: when ``hidden`` < 1 or the endpoints are crossed.

    Source: Kingma et al. 2021 (VDM), appendix H and eq. 59.

    >>> gamma = MonotoneGamma(-4.0, 4.0, hidden=8)
    >>> gamma(torch.tensor([0.0, 1.0])).tolist(), bool(gamma(torch.linspace(0, 1, 9)).diff().min() > 0)
    ([-4.0, 4.0], True)
    """

    def __init__(
        self, gamma_min: float = -13.3, gamma_max: float = 5.0, hidden: int = 1024, learn_endpoints: bool = True
    ) -> None:
        super().__init__(gamma_min, gamma_max, learn_endpoints)
        if hidden < 1:
            raise ValueError(f"hidden must be at least 1, got {hidden}.")
        # Sigmoids of widths 1/20 to 1/2, their centres spread over [0, 1]. l1's bias would only move the centres.
        slope = torch.exp(torch.linspace(math.log(2.0), math.log(20.0), hidden))[torch.randperm(hidden)]
        centre = (torch.arange(hidden) + 0.5) / hidden
        self.raw_1 = nn.Parameter(_inverse_softplus(torch.ones(())))
        self.raw_2 = nn.Parameter(_inverse_softplus(slope))
        self.bias_2 = nn.Parameter(-slope * centre)
        self.raw_3 = nn.Parameter(_inverse_softplus(torch.ones(hidden)))

    def shape(self, t: Tensor) -> Tensor:
        """u(t), see ``Gamma.shape``."""
        # Element-wise products and sums, which autocast leaves in float32.
        w_1 = F.softplus(self.raw_1) + 1e-6
        w_2, w_3 = F.softplus(self.raw_2) * w_1, F.softplus(self.raw_3) / len(self.raw_3)
        level, t_ = w_2 * t[..., None] + self.bias_2, t[..., None]
        # sigmoid(a) - sigmoid(b) = -sigmoid(a) sigmoid(-b) expm1(b - a), which is exactly 0 for a = b and keeps its
        # digits for a near b
        since_0 = -torch.sigmoid(level) * torch.sigmoid(-self.bias_2) * torch.expm1(-w_2 * t_)
        until_1 = -torch.sigmoid(w_2 + self.bias_2) * torch.sigmoid(-level) * torch.expm1(-w_2 * (1 - t_))
        # Rise from 0 to t over the rise from 0 to 1, which is written as the sum of both parts: at t = 0 the first and
        # at t = 1 the second is exactly 0, so the quotient is exactly 0 and 1, in any order of summation.
        before = w_1 * t + (w_3 * since_0).sum(-1)
        after = w_1 * (1 - t) + (w_3 * until_1).sum(-1)
        return torch.lerp(before / (before + after), t, _LINEAR_SHARE)


def _inverse_softplus(value: Tensor) -> Tensor:
    return value + torch.log(-torch.expm1(-value))
