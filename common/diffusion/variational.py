"""
The variational bound of a diffusion model, term by term, and how it is trained.

-log p(x) <= reconstruction + diffusion + latent, each in nats per image (Kingma et al. 2021, eq. 11).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..networks.gamma import alpha_sigma

TERMS = ("reconstruction", "diffusion", "latent")


def bits_per_dimension(nats: Tensor, dimensions: int) -> Tensor:
    """
    Nats per image as bits per pixel and channel.

    Args:
        nats: any shape.
        dimensions: pixels times channels of one image, at least 1.

    Returns:
        The shape of ``nats``.

    Raises:
        ValueError: when ``dimensions`` < 1.
    """
    if dimensions < 1:
        raise ValueError(f"dimensions must be at least 1, got {dimensions}.")
    return nats / (dimensions * math.log(2))


class VariationalBound:
    """
    One estimate of the three terms for each image, called as ``bound(model, x)``.

    The time of an image is drawn antithetically: one uniform number a batch, images at equal strides from it. Noise and
    time are the only randomness; the latent term is exact.

    Args:
        timesteps: T of the discrete-time bound; None for continuous time, its limit for large T.
        antithetic: False for an independent time for each image.
        times: times drawn for each image, at equal strides; their mean is the diffusion term.
        minimise_variance: turn the gradient of the diffusion term with respect to the schedule's shape into that of its
            square (in nats per latent dimension). The bound in continuous time does not depend on the shape, so what
            remains is the variance of its estimate. Endpoints and networks keep the gradient of the bound.

    Raises:
        ValueError: when ``timesteps`` or ``times`` is below 1.

    Source: Kingma et al. 2021 (VDM), eq. 11, 14 and 17, appendices I.1 (times) and I.2, eq. 60 to 62 (variance).

    >>> from ..networks.vdm_dense import dense_vdm
    >>> terms = VariationalBound()(dense_vdm((8, 8), features=8, score_features=8), torch.rand(3, 1, 8, 8))
    >>> {name: tuple(term.shape) for name, term in terms.items()}
    {'reconstruction': (3,), 'diffusion': (3,), 'latent': (3,)}
    """

    def __init__(
        self,
        timesteps: int | None = None,
        antithetic: bool = True,
        times: int = 1,
        minimise_variance: bool = True,
    ) -> None:
        if timesteps is not None and timesteps < 1:
            raise ValueError(f"timesteps must be at least 1, or None for continuous time, got {timesteps}.")
        if times < 1:
            raise ValueError(f"times must be at least 1, got {times}.")
        self.timesteps = timesteps
        self.antithetic = antithetic
        self.times = times
        self.minimise_variance = minimise_variance

    def __call__(
        self,
        model: nn.Module,
        x: Tensor,
        class_labels: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """
        Args:
            model: a ``VariationalDiffusionModel``, or one wrapped for training on several devices.
            x: (N, 1, H, W), float in [0, 1].
            class_labels: (N,) integer or None.
            generator: of times and noise; None for the global one.

        Returns:
            "reconstruction", "diffusion" and "latent", each (N,) nats.
        """
        return model(x, class_labels=class_labels, bound=self, generator=generator)

    def terms(
        self,
        model: Any,
        x: Tensor,
        class_labels: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """As a call, from inside ``model``'s own forward."""
        gamma_0, gamma_1 = model.gamma.endpoints()
        f = model.encode(x)  # z_t = alpha_t f + sigma_t eps
        f = f.to(torch.promote_types(f.dtype, torch.float32))  # autocast may have halved it

        alpha_0, sigma_0 = alpha_sigma(gamma_0)
        z_0 = alpha_0 * f + sigma_0 * _normal(f, generator)

        # Diffusion: how well the noise in z_t is predicted, weighted by gamma'(t) or by the levels' difference.
        t = self._draw_times(f, generator).flatten()
        fs = f.repeat(self.times, *[1] * (f.ndim - 1))
        class_labels = None if class_labels is None else class_labels.repeat(self.times)
        of_square = _GradientFactor(self.minimise_variance)
        gamma_t, weight = self._level_and_weight(model.gamma, t, of_square)
        alpha_t, sigma_t = (scale.reshape(-1, *[1] * (f.ndim - 1)) for scale in alpha_sigma(gamma_t))
        eps = _normal(fs, generator)
        eps_hat = model.eps_hat(alpha_t * fs + sigma_t * eps, gamma_t, class_labels)
        loss = 0.5 * weight * (eps - eps_hat).square().flatten(1).sum(1)
        of_square.factor = 2 * loss.detach() / f[0].numel()
        diffusion = loss.reshape(-1, len(f)).mean(0)

        # Reconstruction: -log p(x | z_0).
        reconstruction = -model.log_likelihood(x, z_0)

        # Latent: KL of q(z_1 | x) from N(0, I). sigma_1^2 - log sigma_1^2 - 1 is written by log1p of -alpha_1^2: it is
        # about alpha_1^4 / 2, far below the rounding of sigma_1^2.
        alpha_1_squared = torch.sigmoid(-gamma_1)
        excess = -alpha_1_squared - torch.log1p(-alpha_1_squared)
        latent = 0.5 * (alpha_1_squared * f.square() + excess).flatten(1).sum(1)
        return {"reconstruction": reconstruction, "diffusion": diffusion, "latent": latent}

    def _draw_times(self, f: Tensor, generator: torch.Generator | None) -> Tensor:
        """(times, N) in [0, 1), each uniform by itself; an image's own times lie at equal strides."""
        cases, device = len(f), f.device
        u = torch.rand(
            1 if self.antithetic else cases,
            generator=generator,
            device=device if generator is None else generator.device,
        ).to(f)
        if self.antithetic:
            u = (u + torch.arange(cases, device=device) / cases) % 1
        return (u + torch.arange(self.times, device=device)[:, None]) / self.times

    def _level_and_weight(self, gamma: Any, t: Tensor, of_square: _GradientFactor) -> tuple[Tensor, Tensor]:
        """gamma_t and the weight of the squared error: gamma'(t) (eq. 17), or T expm1(gamma_t - gamma_s) (eq. 14)."""
        low, high = gamma.endpoints()
        if self.timesteps is not None:
            step = torch.floor(t * self.timesteps).clamp(max=self.timesteps - 1)
            gamma_s = torch.lerp(low, high, of_square(gamma.shape(step / self.timesteps)))
            gamma_t = torch.lerp(low, high, of_square(gamma.shape((step + 1) / self.timesteps)))
            return gamma_t, self.timesteps * torch.expm1(gamma_t - gamma_s)
        with torch.enable_grad():
            t = t.detach().requires_grad_()
            shape = gamma.shape(t)
            (slope,) = torch.autograd.grad(shape.sum(), t, create_graph=True)
        if not (torch.is_grad_enabled() and any(p.requires_grad for p in gamma.parameters())):
            shape, slope = shape.detach(), slope.detach()  # nobody asks for a gradient with respect to z_t
        return torch.lerp(low, high, of_square(shape)), (high - low) * of_square(slope)


class VariationalLoss(nn.Module):
    """
    The bound in bits per dimension, mean over the batch, from the terms of ``VariationalBound``.

    >>> terms = {name: torch.full((2,), math.log(2)) for name in TERMS}
    >>> VariationalLoss()(terms, torch.zeros(2, 1, 1, 3))
    tensor(1.)
    """

    def forward(self, pred: dict[str, Tensor], target: Tensor) -> Tensor:
        """
        Args:
            pred: the three terms, each (N,) nats.
            target: the images, (N, C, H, W), for their number of dimensions alone.

        Returns:
            A scalar.

        Raises:
            FloatingPointError: when a term is NaN or infinite; names it.
        """
        for name in TERMS:
            if not bool(torch.isfinite(pred[name]).all()):
                raise FloatingPointError(
                    f"The {name} term of the bound is {pred[name].detach().tolist()} nats. The weights are those of "
                    "the step before. Check the images for NaN, or lower the learning rate."
                )
        total = torch.stack([pred[name] for name in TERMS]).sum(0)
        return bits_per_dimension(total, target[0].numel()).mean()


class _GradientFactor:
    """
    Multiplies the gradient of what passes through by ``factor``, (N,), which is set after the forward pass.

    With 2 loss it becomes the gradient of the loss's square: that is how the schedule's shape learns low variance.
    """

    factor: Tensor

    def __init__(self, active: bool) -> None:
        self.active = active

    def __call__(self, tensor: Tensor) -> Tensor:
        if not (self.active and tensor.requires_grad):
            return tensor
        passed = tensor.clone()
        passed.register_hook(lambda gradient: gradient * self.factor.to(gradient))
        return passed


def _normal(like: Tensor, generator: torch.Generator | None) -> Tensor:
    device = like.device if generator is None else generator.device
    return torch.randn(like.shape, generator=generator, device=device).to(like)
