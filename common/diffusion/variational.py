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
        f = model.encode(x)
        f = f.to(torch.promote_types(f.dtype, torch.float32))  # autocast may have halved it
        gamma_0, gamma_1 = model.gamma.endpoints()
        alpha_0, sigma_0 = alpha_sigma(gamma_0)
        z_0 = alpha_0 * f + sigma_0 * _normal(f, generator)
        diffusion = self._diffusion(model, f, self._draw_times(f, generator), class_labels, generator)
        return {
            "reconstruction": -model.log_likelihood(x, z_0),
            "diffusion": diffusion,
            "latent": _latent(f, gamma_1),
        }

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

    def _diffusion(
        self, model: Any, f: Tensor, t: Tensor, class_labels: Tensor | None, generator: torch.Generator | None
    ) -> Tensor:
        """The diffusion term, (N,) nats, mean over the times t, (times, N)."""
        cases, t = len(f), t.flatten()
        if self.times > 1:
            f = f.repeat(self.times, *[1] * (f.ndim - 1))
            class_labels = None if class_labels is None else class_labels.repeat(self.times)
        squares = _GradientFactor()
        through = squares if self.minimise_variance else _unchanged
        low, high = model.gamma.endpoints()
        if self.timesteps is None:
            with torch.enable_grad():
                t = t.detach().requires_grad_()
                shape = model.gamma.shape(t)
                (slope,) = torch.autograd.grad(shape.sum(), t, create_graph=True)
            if not (torch.is_grad_enabled() and any(p.requires_grad for p in model.gamma.parameters())):
                shape, slope = shape.detach(), slope.detach()  # nobody asks for a gradient with respect to z_t
            gamma_t = torch.lerp(low, high, through(shape))
            weight = (high - low) * through(slope)  # gamma'(t), eq. 17
        else:
            step = torch.floor(t * self.timesteps).clamp(max=self.timesteps - 1)
            gamma_s = torch.lerp(low, high, through(model.gamma.shape(step / self.timesteps)))
            gamma_t = torch.lerp(low, high, through(model.gamma.shape((step + 1) / self.timesteps)))
            weight = self.timesteps * torch.expm1(gamma_t - gamma_s)  # eq. 14
        alpha, sigma = (_like(scale, f) for scale in alpha_sigma(gamma_t))
        eps = _normal(f, generator)
        eps_hat = model.eps_hat(alpha * f + sigma * eps, gamma_t, class_labels)
        loss = 0.5 * weight * (eps - eps_hat).square().flatten(1).sum(1)
        squares.factor = 2 * loss.detach() / f[0].numel()
        return loss.reshape(-1, cases).mean(0)


class VariationalLoss(nn.Module):
    """The bound in bits per dimension, mean over the batch, from the terms of ``VariationalInferer``."""

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
    """Multiplies the gradient of what passes through by ``factor``, (N,), which is set after the forward pass."""

    factor: Tensor

    def __call__(self, tensor: Tensor) -> Tensor:
        if not tensor.requires_grad:
            return tensor
        passed = tensor.clone()
        passed.register_hook(lambda gradient: gradient * self.factor.to(gradient))
        return passed


def _unchanged(tensor: Tensor) -> Tensor:
    return tensor


def _latent(f: Tensor, gamma_1: Tensor) -> Tensor:
    """KL of q(z_1 | x) from N(0, I), (N,) nats."""
    # sigma_1^2 - log sigma_1^2 - 1, by log1p of -alpha_1^2: it is about alpha_1^4 / 2, far below sigma_1^2's rounding
    alpha_squared = torch.sigmoid(-gamma_1)
    excess = -alpha_squared - torch.log1p(-alpha_squared)
    return 0.5 * (alpha_squared * f.square() + excess).flatten(1).sum(1)


def _normal(like: Tensor, generator: torch.Generator | None) -> Tensor:
    device = like.device if generator is None else generator.device
    return torch.randn(like.shape, generator=generator, device=device).to(like)


def _like(scale: Tensor, tensor: Tensor) -> Tensor:
    """(N,) shaped to multiply ``tensor``, (N, ...)."""
    return scale.reshape(-1, *[1] * (tensor.ndim - 1))
