"""Networks that restore an image in one pass: what diffusion is compared with."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

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
        kwargs: of ``ConditionalDiffusionUNet``.

    Raises:
        ValueError: when the condition has fewer channels than the image.

    Source: the regression baselines of Saharia et al. 2022 (SR3, Palette), which have the diffusion model's network.

    >>> small = {"channels": (8, 16), "attention_levels": (False, False), "num_res_blocks": 1, "norm_num_groups": 8}
    >>> network, degraded = RestorationUNet(2, 2, 1, **small), torch.rand(1, 2, 16, 16)
    >>> torch.equal(network(degraded), degraded[:, :1])
    True
    """

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int, **kwargs: Any) -> None:
        if in_channels < out_channels:
            raise ValueError(f"The condition must hold the degraded image: {in_channels} < {out_channels} channels.")
        super().__init__(spatial_dims, in_channels, out_channels, **kwargs)
        self.out_channels = out_channels

    def forward(self, x: Tensor, timesteps: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """
        Args:
            x: the condition, (N, in_channels, *spatial), in [-1, 1]; sides multiples of ``divisor``.
            timesteps: not looked at.

        Returns:
            (N, out_channels, *spatial), not limited to [-1, 1].
        """
        zeros = torch.zeros(len(x), dtype=torch.long, device=x.device)
        return x[:, : self.out_channels] + super().forward(x, zeros)
