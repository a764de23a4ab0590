"""Base of the metrics that compare two sets of features as a whole."""

from __future__ import annotations

from typing import Any

import torch
from monai.metrics import CumulativeIterationMetric
from torch import Tensor

from .features import FeatureNetwork


class FeatureSetMetric(CumulativeIterationMetric):
    """
    Base of metrics of two sets of features: keeps the features, not the images, and gathers them over processes.

    Args:
        features: the network and its preprocessing; its name stands in the result.
    """

    def __init__(self, features: FeatureNetwork) -> None:
        super().__init__()
        self.features = features

    @property
    def label(self) -> str:
        """Quantity and network."""
        raise NotImplementedError(f"{type(self).__name__} must have a label.")

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **kwargs: Any) -> list[Tensor]:  # type: ignore[override]
        if y is None:
            raise ValueError(f"{self.label} needs generated and real images.")
        return [self.features(y_pred).cpu(), self.features(y).cpu()]

    def aggregate(self) -> Tensor:  # type: ignore[override]
        """Returns the value of the report, a float64 scalar."""
        return torch.tensor(self.report()["value"], dtype=torch.float64)

    def report(self) -> dict[str, Any]:
        """Value, interval, number of images, network."""
        buffer = self.get_buffer()
        if buffer is None:
            raise ValueError(f"{self.label}: no images seen.")
        generated, real = buffer
        return {
            **self._evaluate(real, generated),
            "n": {"generated": len(generated), "real": len(real)},
            "feature_size": real.shape[1],
            "network": self.features.describe(),
        }

    def _evaluate(self, real: Tensor, generated: Tensor) -> dict[str, Any]:
        raise NotImplementedError(f"{type(self).__name__} must implement _evaluate.")
