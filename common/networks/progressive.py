"""UP-GAN's generators: U-Nets in a row, each of which improves an image where the one before was uncertain."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from .unet import ConditionalDiffusionUNet

_HEADS = 3  # image, scale, shape
_LOG_ALPHA = -2.0  # before the training: a Laplace density (log beta = 0) of this scale


class ProgressiveUNet(nn.Module):
    """
    Stages that predict an image with the scale alpha and the shape beta of its error's generalised Gaussian density.

    The first stage reads the degraded image; each later one also what the stage before predicted, with its
    uncertainty, and predicts what to add to it. A stage that was not trained changes nothing.

    Args:
        spatial_dims: 2 or 3.
        in_channels: of the condition, whose first channels are the degraded image.
        out_channels: of the image.
        stages: number of U-Nets, at least 1; the paper has 3.
        kwargs: of ``ConditionalDiffusionUNet``, each stage's network (at t = 0).

    Attributes:
        stage: the one that is trained, with those before it fixed; None for all.

    Raises:
        ValueError: for less than one stage, or a condition with fewer channels than the image.

    Source: Upadhyay et al. 2021, Fig. 1 and section 2 (UP-GAN), whose later stages replace the image.

    >>> small = {"channels": (8, 16), "attention_levels": (False, False), "num_res_blocks": 1, "norm_num_groups": 8}
    >>> network, degraded = ProgressiveUNet(2, 1, 1, **small), torch.rand(1, 1, 16, 16)
    >>> torch.equal(network(degraded), degraded), network.heads(degraded).shape
    (True, torch.Size([1, 3, 16, 16]))
    """

    def __init__(
        self, spatial_dims: int, in_channels: int, out_channels: int = 1, stages: int = 2, **kwargs: Any
    ) -> None:
        super().__init__()
        if stages < 1 or in_channels < out_channels:
            raise ValueError(
                f"At least one stage and {out_channels} channels expected, got {stages} and {in_channels}."
            )
        self.out_channels = out_channels
        wide = _HEADS * out_channels
        self.stages = nn.ModuleList(
            ConditionalDiffusionUNet(spatial_dims, in_channels + wide * (index > 0), wide, **kwargs)
            for index in range(stages)
        )
        first: Any = self.stages[0]
        self.divisor: int = first.divisor
        self.stage: int | None = None

    def train_stage(self, stage: int | None) -> None:
        """Train this stage alone from now on, on what the earlier ones give; None for all."""
        self.stage = stage
        for index, network in enumerate(self.stages):
            network.requires_grad_(stage in (None, index))

    def heads(self, x: Tensor) -> Tensor:
        """
        Args:
            x: the condition, (N, in_channels, *spatial), in [-1, 1]; sides multiples of ``divisor``.

        Returns:
            Image, log alpha and log beta, (N, 3 x out_channels, *spatial); in training of the stage that is trained,
            else of the last.
        """
        image = x[:, : self.out_channels]
        heads = torch.cat([image, torch.full_like(image, _LOG_ALPHA), torch.zeros_like(image)], dim=1)
        zeros = torch.zeros(len(x), dtype=torch.long, device=x.device)
        trained = self.stage if self.training else None
        for index, network in enumerate(self.stages if trained is None else self.stages[: trained + 1]):
            with nullcontext() if trained in (None, index) else torch.no_grad():
                heads = heads + network(x if index == 0 else torch.cat([heads, x], dim=1), zeros)
        return heads

    def forward(self, x: Tensor, timesteps: Tensor | None = None) -> Tensor:
        """The image of ``heads``, (N, out_channels, *spatial), not limited to [-1, 1]; ``timesteps`` do not count."""
        return self.heads(x)[:, : self.out_channels]

    def running_precision(self, device: torch.device | str | None = None) -> str:
        """Of the stages, see ``ConditionalDiffusionUNet``."""
        return self.stages[0].running_precision(device)  # type: ignore[operator, return-value]
