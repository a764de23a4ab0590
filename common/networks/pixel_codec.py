"""Images as latents of a variational diffusion model without an encoder to learn, and checks of what is no image."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

_ROUNDING = 1e-5  # by which resizing may leave [0, 1]
LEVELS = 256
# Levels whose log-weight is more than this below that of the nearest are left out of p(x | z_0)'s normaliser; their sum
# is under 256 exp(-40), a millionth of float64's rounding.
_NEGLIGIBLE = 40.0


def check_images(x: Tensor, image_size: Sequence[int] | None = None) -> None:
    """
    Refuse what is no batch of images for a model.

    Args:
        x: should be (N, 1, H, W), float in [0, 1].
        image_size: (H, W) that the model was made for; None for any.

    Raises:
        ValueError: says what was expected and what came.
    """
    if x.ndim != 4 or x.shape[1] != 1 or not x.is_floating_point():
        raise ValueError(f"Images must be float (N, 1, H, W), got {x.dtype} {tuple(x.shape)}.")
    check_size(x.shape[2:], image_size)
    low, high = (float(value) for value in torch.aminmax(x.detach()))
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):  # written so that NaN is refused as well
        raise ValueError(f"Images must lie in [0, 1], got values from {low:g} to {high:g}.")


def check_size(given: Sequence[int], image_size: Sequence[int] | None) -> None:
    """A ValueError when ``given`` (H, W) is not the ``image_size`` that the model was made for (None: any)."""
    if image_size is not None and tuple(given) != tuple(image_size):
        raise ValueError(f"This model was made for images of {tuple(image_size)} pixels, got {tuple(given)}.")


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


def _centre(level: Tensor) -> Tensor:
    """Middle of a grey level, of 0 to 255, in (-1, 1)."""
    return 2 * ((level + 0.5) / LEVELS) - 1


def _nearest(z: Tensor) -> Tensor:
    """The level whose middle is nearest to z, as a float."""
    return torch.round((z.detach() + 1) * (LEVELS / 2) - 0.5).clamp(0, LEVELS - 1)
