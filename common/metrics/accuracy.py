"""How often a classifier still finds the class of an image: the downstream task of restored images."""

from __future__ import annotations

from typing import Any

import torch
from monai.metrics import CumulativeIterationMetric
from torch import Tensor, nn

from .intervals import binomial_interval
from .sets import plain_images


class ClassAccuracy(CumulativeIterationMetric):
    """
    Share of images that a classifier gets right.

    Args:
        network: (N, C, *spatial) in [-1, 1] -> (N, classes) logits, in eval mode.
        name: of the classifier, stands in the label.
        device: to compute on.
    """

    def __init__(self, network: nn.Module, name: str = "classifier", device: str | torch.device = "cpu") -> None:
        super().__init__()
        self.network = network
        self.name = name
        self.device = torch.device(device)

    @property
    def label(self) -> str:
        """Such as ``accuracy[vgg11]``."""
        return f"accuracy[{self.name}]"

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **kwargs: Any) -> Tensor:
        if y is None or y.numel() != len(y_pred):
            raise ValueError(f"{self.label} needs one class index an image.")
        with torch.no_grad():
            found = self.network(plain_images(y_pred).float().to(self.device)).argmax(1).cpu()
        return (found == y.cpu().long().flatten()).double().unsqueeze(1)

    def per_case(self) -> Tensor:
        """1 for each image that was right, else 0, (n,), float64."""
        return self.get_buffer()[:, 0]

    def aggregate(self) -> Tensor:  # type: ignore[override]
        """Returns the accuracy."""
        return self.per_case().mean()

    def report(self) -> dict[str, Any]:
        """Number of right answers, and the exact interval of the accuracy."""
        right = self.per_case()
        k, n = int(right.sum()), len(right)
        return {"correct": k, "interval95": binomial_interval(k, n), "interval_by": "exact binomial"}
