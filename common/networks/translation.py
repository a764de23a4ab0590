"""Two generators that translate between images and their conditions: DiscoGAN's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.layers import Norm
from monai.networks.nets import AutoEncoder
from torch import Tensor, nn

from .device import precision_name


class TranslationPair(nn.Module):
    """
    Condition to image and image to condition, each an encoder and decoder without skip connections.

    Called with a condition it returns the image; ``round_trips`` is what training needs.

    Args:
        spatial_dims: 2 or 3.
        in_channels: of the condition.
        out_channels: of the image.
        channels: of the levels; each halves the grid.

    Source: Kim et al. 2017 (DiscoGAN), Fig. 2c and section 3.1, whose networks have four to five levels for images of
        64 x 64 pixels, batch normalisation and transposed convolutions; here instances are normalised.

    >>> pair = TranslationPair(3, in_channels=2, out_channels=1, channels=(4, 8))
    >>> mask, image = torch.ones(1, 2, 8, 8, 8), torch.ones(1, 1, 8, 8, 8)
    >>> pair(mask).shape, pair.round_trips(mask, image).shape
    (torch.Size([1, 1, 8, 8, 8]), torch.Size([1, 6, 8, 8, 8]))
    """

    def __init__(
        self, spatial_dims: int, in_channels: int, out_channels: int, channels: Sequence[int] = (64, 128, 256)
    ) -> None:
        super().__init__()
        act = ("leakyrelu", {"negative_slope": 0.2})
        options = {"channels": channels, "strides": [2] * len(channels), "act": act, "norm": Norm.INSTANCE}
        self.to_image = AutoEncoder(spatial_dims, in_channels, out_channels, **options)  # type: ignore[arg-type]
        self.to_condition = AutoEncoder(spatial_dims, out_channels, in_channels, **options)  # type: ignore[arg-type]
        self.divisor = 2 ** len(channels)

    def forward(self, x: Tensor, timesteps: Tensor | None = None) -> Tensor:
        """
        Args:
            x: the condition, (N, in_channels, *spatial), in [-1, 1]; sides multiples of ``divisor``.
            timesteps: not looked at.

        Returns:
            The image, (N, out_channels, *spatial), in (-1, 1).
        """
        return torch.tanh(self.to_image(x))

    def round_trips(self, condition: Tensor, image: Tensor) -> Tensor:
        """
        Both translations, and both back again.

        Args:
            condition: (N, in_channels, *spatial), in [-1, 1].
            image: (N, out_channels, *spatial), in [-1, 1].

        Returns:
            (N, 2 x (out_channels + in_channels), *spatial): the image of ``condition`` and the condition of ``image``,
            then ``image`` and ``condition`` as they come back; in (-1, 1).
        """
        fake, read = self(condition), torch.tanh(self.to_condition(image))
        return torch.cat([fake, read, self(read), torch.tanh(self.to_condition(fake))], dim=1)

    def running_precision(self, device: torch.device | str | None = None) -> str:
        """Of the weights, for a record of how a result was made."""
        return precision_name(next(self.parameters()).dtype)
