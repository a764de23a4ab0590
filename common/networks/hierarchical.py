"""A hierarchical probabilistic U-Net: restorations drawn through latent variables at several resolutions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from monai.networks.blocks.segresnet_block import ResBlock
from monai.networks.nets.diffusion_model_unet import zero_module
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from .device import precision_name

_GROUPS = 8
# Largest size of a logarithm of a latent's standard deviation, approached smoothly. A prior as narrow as exp(-7) made
# the divergence of a posterior beside it 10^7 nats a pixel, and a training that had gone well for an epoch was lost.
_LOG_STD = 3.0


class _Ladder(nn.Module):
    """An encoder, and the coarse part of a decoder with a latent at each of its levels."""

    def __init__(self, in_channels: int, channels: Sequence[int], latents: int, latent_channels: int) -> None:
        super().__init__()
        self.down = nn.ModuleList(_level(a, b) for a, b in zip((in_channels, *channels), channels))
        coarse = list(channels[::-1][:latents])
        self.stats = nn.ModuleList(nn.Conv2d(c, 2 * latent_channels, 1) for c in coarse)
        self.up = nn.ModuleList(_level(a + latent_channels + b, b) for a, b in pairwise(coarse))

    def encode(self, x: Tensor) -> list[Tensor]:
        """Features of every level, finest first."""
        features: list[Tensor] = []
        for level in self.down:
            x = level(F.avg_pool2d(x, 2) if features else x)
            features.append(x)
        return features

    def climb(
        self, features: list[Tensor], given: list[Tensor] | None, generators: Sequence[torch.Generator] | None
    ) -> tuple[Tensor, list[Normal], list[Tensor]]:
        """From the coarsest level up: the last features with their latent, the densities, and the latents."""
        h, densities, latents = features[-1], [], []
        for index, stats in enumerate(self.stats):
            if index:
                h = self.up[index - 1](_joined(h, features[-1 - index]))
            mean, log_std = stats(h).float().chunk(2, dim=1)
            densities.append(Normal(mean, (_LOG_STD * torch.tanh(log_std / _LOG_STD)).exp()))
            latents.append(
                given[index] if given is not None else mean + densities[-1].stddev * _noise(mean, generators)
            )
            h = torch.cat([h, latents[-1]], dim=1)
        return h, densities, latents


class HierarchicalProbabilisticUNet(nn.Module):
    """
    A conditional variational autoencoder in the shape of a U-Net; the prior and the posterior are two such ladders.

    The prior sees the degraded image, the posterior the clean one as well. The latents are maps of the coarsest levels,
    each of which depends on the coarser ones. In training those of the posterior are decoded; in use, the prior's.
    The network predicts what to add to the degraded image.

    Args:
        in_channels: of the condition, whose first channels are the degraded image.
        out_channels: of the image.
        channels: of each level, finest first, multiples of 8; sides must be multiples of 2^(levels - 1).
        latents: number of levels with a latent, the coarsest ones, less than the number of levels.
        latent_channels: of a latent.

    Raises:
        ValueError: for a number of latents that does not fit.

    Source: Kohl et al. 2019 (the hierarchical probabilistic U-Net), section 2 and appendix; Hung et al. 2021 use it for
        inpainting (HPUNet). Group normalisation and sizes are ours.

    >>> network = HierarchicalProbabilisticUNet(2, 1, channels=(8, 16, 16), latents=2)
    >>> x, y = torch.rand(3, 2, 16, 16), torch.rand(3, 1, 16, 16)
    >>> torch.equal(network(x), x[:, :1]), {name: term.shape for name, term in network(x, target=y).items()}
    (True, {'reconstruction': torch.Size([3]), 'kl': torch.Size([3])})
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 1,
        channels: Sequence[int] = (16, 32, 64, 128, 128),
        latents: int = 3,
        latent_channels: int = 1,
    ) -> None:
        super().__init__()
        if not 1 <= latents < len(channels):
            raise ValueError(f"1 to {len(channels) - 1} latents fit {len(channels)} levels, got {latents}.")
        self.out_channels = out_channels
        self.divisor = 2 ** (len(channels) - 1)
        self.prior = _Ladder(in_channels, channels, latents, latent_channels)
        self.posterior = _Ladder(in_channels + out_channels, channels, latents, latent_channels)
        fine = list(channels[::-1][latents - 1 :])
        extra = [latent_channels, *[0] * (len(fine) - 2)]
        self.decoder = nn.ModuleList(_level(a + z + b, b) for a, b, z in zip(fine, fine[1:], extra))
        self.out = zero_module(nn.Conv2d(fine[-1], out_channels, 3, padding=1))

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor | None = None,
        target: Tensor | None = None,
        generators: Sequence[torch.Generator] | None = None,
    ) -> Tensor | dict[str, Tensor]:
        """
        Args:
            x: the condition, (N, in_channels, H, W), in [-1, 1]; sides multiples of ``divisor``.
            timesteps: not looked at.
            target: the clean image, (N, out_channels, H, W), in training; None to draw one.
            generators: one a case, on the CPU, of what is drawn; None for PyTorch's own.

        Returns:
            A drawn image, (N, out_channels, H, W), not limited to [-1, 1]; or the terms of the bound a case: the mean
            absolute error, and the Kullback-Leibler divergence of posterior and prior in nats a pixel, (N,) each.
        """
        features = self.prior.encode(x)
        if target is None:
            return self._decoded(x, features, self.prior.climb(features, None, generators)[0])
        seen = self.posterior.encode(torch.cat([x, target], dim=1))
        _, posterior, latents = self.posterior.climb(seen, None, generators)
        h, prior, _ = self.prior.climb(features, latents, None)
        divergences = [kl_divergence(q, p).flatten(1).sum(1) for q, p in zip(posterior, prior)]
        error = (self._decoded(x, features, h) - target).abs().flatten(1).mean(1)
        return {"reconstruction": error, "kl": torch.stack(divergences).sum(0) / x[0, 0].numel()}

    def running_precision(self, device: torch.device | str | None = None) -> str:
        """Of the weights, for a record of how a result was made."""
        return precision_name(next(self.parameters()).dtype)

    def _decoded(self, x: Tensor, features: list[Tensor], h: Tensor) -> Tensor:
        for level, skip in zip(self.decoder, features[: len(self.decoder)][::-1]):
            h = level(_joined(h, skip))
        return x[:, : self.out_channels] + self.out(h)


def _level(in_channels: int, channels: int) -> nn.Module:
    first = nn.Conv2d(in_channels, channels, 3, padding=1)
    return nn.Sequential(first, ResBlock(2, channels, norm=("GROUP", {"num_groups": _GROUPS})))


def _joined(h: Tensor, skip: Tensor) -> Tensor:
    return torch.cat([F.interpolate(h, scale_factor=2.0, mode="nearest"), skip], dim=1)


def _noise(like: Tensor, generators: Sequence[torch.Generator] | None) -> Tensor:
    if generators is None:
        return torch.randn_like(like)
    return torch.stack([torch.randn(like.shape[1:], generator=g) for g in generators]).to(like)
