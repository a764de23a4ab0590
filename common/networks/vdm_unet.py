"""The variational diffusion model on pixels: 256 grey levels, Fourier features and MONAI's U-Net."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .gamma import Gamma, MonotoneGamma
from .unet import ConditionalDiffusionUNet
from .vdm import NoiseLevelScale, VariationalDiffusionModel, check_classes, check_images, check_size

LEVELS = 256
# Levels whose log-weight is more than this below that of the nearest are left out of p(x | z_0)'s normaliser; their sum
# is under 256 exp(-40), a millionth of float64's rounding.
_NEGLIGIBLE = 40.0


class PixelCodec(nn.Module):
    """
    Encoder and decoder at once, with nothing to learn: f is the centre of a pixel's grey level in [-1, 1].

    p(x | z_0) is, for each pixel, proportional over the 256 levels to q(z_0 | level).

    Args:
        image_size: (H, W) to insist on; None for any.

    Source: Kingma et al. 2021 (VDM), section 3.3, eq. 8.

    >>> PixelCodec()(torch.tensor([0.0, 1.0]).reshape(1, 1, 1, 2)).flatten().tolist()
    [-0.99609375, 0.99609375]
    """

    def __init__(self, image_size: Sequence[int] | None = None) -> None:
        super().__init__()
        self.image_size = None if image_size is None else tuple(image_size)

    def latent_shape(self, image_size: Sequence[int]) -> tuple[int, ...]:
        """(1, H, W); a ValueError for another image size than insisted on."""
        check_size(image_size, self.image_size)
        return (1, *image_size)

    def forward(self, x: Tensor) -> Tensor:
        """f, (N, 1, H, W) in (-1, 1), for x (N, 1, H, W) in [0, 1]."""
        check_images(x, self.image_size)
        return _centre(torch.round(x * (LEVELS - 1)))

    def log_likelihood(self, x: Tensor, z: Tensor, gamma_0: Tensor) -> Tensor:
        """log p(x | z), (N,), nats, for z = z_0 / alpha_0, whose noise has variance exp(gamma_0)."""
        precision = torch.exp(-gamma_0)

        def logit(level: Tensor, z: Tensor) -> Tensor:
            return -0.5 * precision * (z - _centre(level)).square()

        # Only levels near z have any weight while the noise is small against their distance 2 / 256.
        reach = math.sqrt(2 * _NEGLIGIBLE) * math.exp(0.5 * float(gamma_0.detach())) * LEVELS / 2
        reach = LEVELS - 1 if reach > LEVELS else math.ceil(reach) + 1
        near = _nearest(z)[..., None] + torch.arange(-reach, reach + 1, device=z.device)
        logits = logit(near, z[..., None]).masked_fill((near < 0) | (near >= LEVELS), -math.inf)
        own = logit(torch.round(x * (LEVELS - 1)), z)
        return (own - torch.logsumexp(logits, dim=-1)).flatten(1).sum(1)

    def image(self, z: Tensor, gamma_0: Tensor) -> Tensor:
        """The most likely levels over 255, (N, 1, H, W)."""
        return _nearest(z) / (LEVELS - 1)


class UNetScore(nn.Module):
    """
    Noise in an image: MONAI's U-Net on the noisy image and its Fourier features, added to the noisy image.

    Args:
        num_classes: None for no classes.
        fourier: n of the features sin(2^n pi z) and cos(2^n pi z): which grey level a value is next to.
        gamma_min: noise level that is embedded as step 0, see ``NoiseLevelScale``.
        gamma_max: noise level that is embedded as step 1000.
        unet: arguments of ``ConditionalDiffusionUNet`` but its dimensions, channels in and out, and classes.

    Source: Kingma et al. 2021 (VDM), section 3.4, eq. 34 and appendix C.

    >>> score = UNetScore(channels=(8,), attention_levels=(False,), num_res_blocks=1, norm_num_groups=8)
    >>> score(torch.rand(2, 1, 8, 8), torch.tensor([-3.0, 3.0])).shape
    torch.Size([2, 1, 8, 8])
    """

    def __init__(
        self,
        num_classes: int | None = None,
        fourier: Sequence[int] = (7, 8),
        gamma_min: float = -13.3,
        gamma_max: float = 5.0,
        **unet: Any,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.fourier = tuple(fourier)
        self.step = NoiseLevelScale(gamma_min, gamma_max)
        self.unet = ConditionalDiffusionUNet(
            2, 1 + 2 * len(self.fourier), 1, num_class_embeds=num_classes, **{"include_fc": False, **unet}
        )
        self.divisor = self.unet.divisor

    def forward(self, z_t: Tensor, gamma_t: Tensor, class_labels: Tensor | None = None) -> Tensor:
        """eps_hat, (N, 1, H, W), for z_t (N, 1, H, W), gamma_t (N,) and classes (N,)."""
        check_classes(class_labels, self.num_classes)
        angles = [z_t * (2.0**n * math.pi) for n in self.fourier]
        features = [wave(angle) for angle in angles for wave in (torch.sin, torch.cos)]
        return z_t + self.unet(torch.cat([z_t, *features], dim=1), self.step(gamma_t), class_labels=class_labels)


def unet_vdm(
    gamma: Gamma | None = None,
    image_size: Sequence[int] | None = None,
    num_classes: int | None = None,
    fourier: Sequence[int] = (7, 8),
    **unet: Any,
) -> VariationalDiffusionModel:
    """
    The pixel-space model with fresh weights.

    Args:
        gamma: the noise schedule; None for a ``MonotoneGamma``.
        image_size: (H, W) to insist on; None for any that the U-Net can halve.
        num_classes: None for no classes.
        fourier: see ``UNetScore``.
        unet: arguments of ``ConditionalDiffusionUNet``.

    Returns:
        The model.
    """
    gamma = MonotoneGamma() if gamma is None else gamma
    low, high = (float(value.detach()) for value in gamma.endpoints())
    return VariationalDiffusionModel(gamma, UNetScore(num_classes, fourier, low, high, **unet), PixelCodec(image_size))


def _centre(level: Tensor) -> Tensor:
    """Middle of a grey level, of 0 to 255, in (-1, 1)."""
    return 2 * ((level + 0.5) / LEVELS) - 1


def _nearest(z: Tensor) -> Tensor:
    """The level whose middle is nearest to z, as a float."""
    return torch.round((z.detach() + 1) * (LEVELS / 2) - 0.5).clamp(0, LEVELS - 1)
