"""Two residual blocks at full resolution behind a network that works on folded images."""

from __future__ import annotations

import torch
from monai.networks.blocks import Convolution
from monai.networks.nets.diffusion_model_unet import DiffusionUNetResnetBlock, zero_module
from torch import nn

_GROUPS, _BLOCKS = 8, 2  # of the refiner


class FullResolutionRefiner(nn.Module):
    """
    Two residual blocks at full resolution that correct a folded network's prediction; the identity at first.

    A folded network has a filter of its own for each voxel of a patch and learns to remove fine noise slowly; here
    one filter serves every voxel. It sees the noisy input, the coarse prediction and the unfolded features.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the noisy image and its condition.
        out_channels: channels of the prediction.
        feature_channels: channels of the unfolded features.
        channels: width, a multiple of 8.
        temb_channels: width of the time embedding.

    Raises:
        ValueError: when ``channels`` is no multiple of 8.

    >>> refiner = FullResolutionRefiner(2, 2, 1, feature_channels=4, channels=8, temb_channels=16)
    >>> x, prediction = torch.rand(1, 2, 8, 8), torch.rand(1, 1, 8, 8)
    >>> torch.equal(refiner(x, prediction, torch.rand(1, 4, 8, 8), torch.rand(1, 16)), prediction)
    True
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        feature_channels: int,
        channels: int,
        temb_channels: int,
    ) -> None:
        super().__init__()
        if channels % _GROUPS:
            raise ValueError(f"channels must be a multiple of {_GROUPS}, got {channels}.")
        total = in_channels + out_channels + feature_channels
        self.conv_in = Convolution(spatial_dims, total, channels, kernel_size=3, conv_only=True)
        self.blocks = nn.ModuleList(
            DiffusionUNetResnetBlock(spatial_dims, channels, temb_channels, channels, norm_num_groups=_GROUPS)
            for _ in range(_BLOCKS)
        )
        self.norm = nn.GroupNorm(_GROUPS, channels)
        self.conv_out = zero_module(Convolution(spatial_dims, channels, out_channels, kernel_size=3, conv_only=True))

    def forward(
        self, x: torch.Tensor, prediction: torch.Tensor, features: torch.Tensor, temb: torch.Tensor
    ) -> torch.Tensor:
        """
        Args:
            x: (N, in_channels, *spatial).
            prediction: (N, out_channels, *spatial), of the folded network, unfolded.
            features: (N, feature_channels, *spatial), what it was made from, unfolded.
            temb: (N, temb_channels).

        Returns:
            (N, out_channels, *spatial).
        """
        h = self.conv_in(torch.cat([x, prediction, features], dim=1))
        for block in self.blocks:
            h = block(h, temb)
        return prediction + self.conv_out(nn.functional.silu(self.norm(h)))
