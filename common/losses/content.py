"""The content loss of SRGAN: squared differences in the deepest feature maps of VGG16."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..features.backbones import PREPROCESSING
from ..features.features import FeatureNetwork
from ..networks.device import autocast, resolve_precision

logger = logging.getLogger(__name__)


class ContentLoss(nn.Module):
    """
    Mean squared error of the images, and of the activations before VGG16's last pooling times ``feature_weight``.

    Args:
        weights: VGG16's file, see ``common.networks.imagenet``; None for the error of the images alone, with a notice.
        pixel_weight: of the images' squared error.
        feature_weight: of the activations' squared error; the paper's 0.006 brings it to the scale of the images.
        device: of VGG16.
        precision: of VGG16, see ``resolve_precision``.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it holds another network.

    Source: Ledig et al. 2017 (SRGAN), eqs. 4 and 5, which take VGG19 and start from a generator trained by the error
        of the images alone, for which ``pixel_weight`` stands here.

    >>> ContentLoss()(torch.zeros(2, 1, 64, 64), torch.ones(2, 1, 64, 64))
    tensor(1.)
    """

    def __init__(
        self,
        weights: str | Path | None = None,
        pixel_weight: float = 1.0,
        feature_weight: float = 0.006,
        device: str | torch.device = "cpu",
        precision: str = "fp32",
    ) -> None:
        super().__init__()
        self.pixel_weight, self.feature_weight = pixel_weight, feature_weight
        self.dtype = resolve_precision(precision, torch.device(device))
        self.features = None if weights is None else FeatureNetwork("vgg16", weights, device=device)
        if self.features is not None:  # faster on a CPU
            self.features.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        else:
            logger.warning("No vgg16_weights: the content loss is the squared error of the images alone.")

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """
        Args:
            pred: restored images, (N, 1 or 3, H, W), about [-1, 1], sides of at least 64.
            target: clean images of the same shape.

        Returns:
            A scalar.
        """
        loss = self.pixel_weight * F.mse_loss(pred, target)
        if self.features is not None:
            loss = loss + self.feature_weight * F.mse_loss(self._maps(pred), self._maps(target))
        return loss

    def _maps(self, images: Tensor) -> Tensor:
        """Of the deepest level, with gradients, which ``FeatureNetwork.maps`` does not keep."""
        spec, network = self.features.spec, self.features.network  # type: ignore[union-attr]
        prepared = PREPROCESSING[spec.preprocessing][0](images.float().expand(-1, 3, -1, -1))
        with autocast(images.device.type, self.dtype):
            return spec.maps(network, prepared)[-1].float()  # type: ignore[misc]
