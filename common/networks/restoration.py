"""Networks that restore an image in one pass: what diffusion is compared with."""

from __future__ import annotations

from typing import Any

import torch
from monai.networks.blocks import SubpixelUpsample
from monai.networks.nets.diffusion_model_unet import zero_module
from monai.networks.utils import pixelunshuffle
from torch import Tensor, nn

from .device import precision_name
from .unet import ConditionalDiffusionUNet


class RestorationUNet(ConditionalDiffusionUNet):
    """
    The denoising U-Net without time: degraded image in, restored image out, in one pass.

    Its layers are those of the diffusion network, so that a comparison is one of methods and not of sizes; the time
    embedding is that of t = 0. It predicts what to add to the degraded image, which it returns before its training.

    Args:
        spatial_dims: 2 or 3.
        in_channels: of the condition, whose first channels are the degraded image.
        out_channels: of the image.
        residual: add the prediction to the degraded image; False where the condition holds none, such as labels.
        kwargs: of ``ConditionalDiffusionUNet``.

    Raises:
        ValueError: when ``residual`` and the condition has fewer channels than the image.

    Source: the regression baselines of Saharia et al. 2022 (SR3, Palette), which have the diffusion model's network.

    >>> small = {"channels": (8, 16), "attention_levels": (False, False), "num_res_blocks": 1, "norm_num_groups": 8}
    >>> network, degraded = RestorationUNet(2, 2, 1, **small), torch.rand(1, 2, 16, 16)
    >>> torch.equal(network(degraded), degraded[:, :1])
    True
    """

    def __init__(
        self, spatial_dims: int, in_channels: int, out_channels: int, residual: bool = True, **kwargs: Any
    ) -> None:
        if residual and in_channels < out_channels:
            raise ValueError(f"The condition must hold the degraded image: {in_channels} < {out_channels} channels.")
        super().__init__(spatial_dims, in_channels, out_channels, **kwargs)
        self.out_channels, self.residual = out_channels, residual

    def forward(self, x: Tensor, timesteps: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """
        Args:
            x: the condition, (N, in_channels, *spatial), in [-1, 1]; sides multiples of ``divisor``.
            timesteps: not looked at.

        Returns:
            (N, out_channels, *spatial), not limited to [-1, 1].
        """
        zeros = torch.zeros(len(x), dtype=torch.long, device=x.device)
        predicted = super().forward(x, zeros)
        return x[:, : self.out_channels] + predicted if self.residual else predicted

    def example_inputs(self, batch: int = 1) -> dict[str, Tensor]:
        """As the denoising U-Net's, without a time."""
        return {"x": super().example_inputs(batch)["x"]}


class SRResNet(nn.Module):
    """
    SRGAN's generator: residual blocks on a coarse grid, then sub-pixel convolutions to the fine one.

    It gets the degraded image on the fine grid, whose factor need not be whole, folds it into channels (nothing is
    lost), and predicts what to add to it; SRGAN reads the coarse image itself and predicts the fine one.

    Args:
        in_channels: of the condition, whose first channels are the degraded image.
        out_channels: of the image.
        channels: of the blocks.
        num_blocks: of two convolutions each.
        factor: of the fine grid over the coarse one, a power of 2; sides must be multiples of it.

    Raises:
        ValueError: for a factor that is no power of 2.

    Source: Ledig et al. 2017 (SRGAN), Fig. 4; its numbers are the defaults.

    >>> network, degraded = SRResNet(channels=8, num_blocks=1), torch.rand(1, 1, 16, 24)
    >>> torch.equal(network(degraded), degraded)
    True
    """

    def __init__(
        self, in_channels: int = 1, out_channels: int = 1, channels: int = 64, num_blocks: int = 16, factor: int = 4
    ) -> None:
        super().__init__()
        if factor < 1 or factor & (factor - 1):
            raise ValueError(f"factor must be a power of 2, got {factor}.")
        self.divisor = self.factor = factor
        self.out_channels = out_channels
        self.head = nn.Sequential(nn.Conv2d(in_channels * factor**2, channels, 9, padding=4), nn.PReLU())
        self.blocks = nn.Sequential(*(_BatchNormBlock(channels) for _ in range(num_blocks)))
        self.tail = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels))
        doubled = [SubpixelUpsample(2, channels, scale_factor=2, apply_pad_pool=False) for _ in range(_log2(factor))]
        self.up = nn.Sequential(*(layer for up in doubled for layer in (up, nn.PReLU())))
        self.out = zero_module(nn.Conv2d(channels, out_channels, 9, padding=4))

    def forward(self, x: Tensor, timesteps: Tensor | None = None) -> Tensor:
        """
        Args:
            x: the condition, (N, in_channels, H, W), in [-1, 1]; sides multiples of ``divisor``.
            timesteps: not looked at.

        Returns:
            (N, out_channels, H, W), not limited to [-1, 1].
        """
        first = self.head(pixelunshuffle(x, 2, self.factor))
        return x[:, : self.out_channels] + self.out(self.up(first + self.tail(self.blocks(first))))

    def running_precision(self, device: torch.device | str | None = None) -> str:
        """Of the weights, for a record of how a result was made."""
        return precision_name(next(self.parameters()).dtype)


class _BatchNormBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.PReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def _log2(power: int) -> int:
    return power.bit_length() - 1
