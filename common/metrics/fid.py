"""Fréchet and kernel distance of features (FID, KID), under the name of the network that gave the features."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from monai.metrics import CumulativeIterationMetric
from monai.utils import evenly_divisible_all_gather
from torch import Tensor

from .features import FeatureNetwork
from .frechet import GaussianStatistics, frechet_distance
from .mmd import mmd2_unbiased


def fid(generated: Tensor, real: Tensor) -> float:
    """
    Fréchet distance between two sets of features.

    Args:
        generated: (n, d).
        real: (m, d).

    Returns:
        The distance, not negative.

    Raises:
        ValueError: for fewer than two vectors in a set, other shapes, NaN.

    Source: Heusel et al. 2017, eq. 6.
    """
    statistics = []
    for features in (generated, real):
        statistics.append(GaussianStatistics(features.shape[-1]))
        statistics[-1].update(features)
    a, b = statistics
    return frechet_distance(a.mean, a.covariance, b.mean, b.covariance)


def kid(generated: Tensor, real: Tensor) -> float:
    """
    Kernel distance: unbiased squared MMD of features under the kernel (x.y / d + 1)^3; unbiased for any n.

    It may be slightly negative. Computed over all pairs, not over random subsets as in the reference code, which only
    adds variance.

    Args:
        generated: (n, d), n at least 2.
        real: (m, d), m at least 2.

    Source: Bińkowski et al. 2018, section 4.
    """
    size = generated.shape[-1]
    return mmd2_unbiased(generated, real, lambda x, y: (x @ y.T / size + 1) ** 3)


class FrechetDistanceMetric(CumulativeIterationMetric):
    """
    3D-FID (or 2D) between generated and real volumes, streaming: features are merged into a mean and a covariance.

    MONAI 1.6.1 has ``FIDMetric``. It is not used: it takes all features at once, it does not accumulate over
    iterations or processes, and its root of the product of two covariances is ``scipy.linalg.sqrtm`` with a fallback
    that adds 1e-6 to the diagonal. With fewer images than features, as with every medical set, both covariances are
    singular and that root is unreliable.

    Args:
        features: the network and its preprocessing; its name stands in the result.

    Source: Med-DDPM, section III (3D-FID with histogram equalisation); Heusel et al. 2017.
    """

    def __init__(self, features: FeatureNetwork) -> None:
        self.features = features
        super().__init__()

    @property
    def label(self) -> str:
        """Such as ``fid[med3d_resnet50, equalised]``."""
        return f"fid[{self.features.label}]"

    def reset(self) -> None:
        """Forget all features."""
        super().reset()
        self._statistics: list[GaussianStatistics] = []

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **kwargs: Any) -> Tensor:
        if y is None:
            raise ValueError("The Fréchet distance needs generated and real images.")
        features = [self.features(y_pred), self.features(y)]
        self._statistics = self._statistics or [GaussianStatistics(f.shape[1]) for f in features]
        for statistics, new in zip(self._statistics, features):
            statistics.update(new)
        return torch.ones(len(y_pred), 1)

    def merged(self) -> list[GaussianStatistics]:
        """Statistics of generated and real features over all processes."""
        if not self._statistics:
            raise ValueError(f"{self.label}: no images seen.")
        size = len(self._statistics[0].mean)
        result = []
        for own in self._statistics:
            total = GaussianStatistics(size)
            for row in evenly_divisible_all_gather(own.packed().unsqueeze(0), concat=True):
                total.merge(GaussianStatistics.unpacked(row, size))
            result.append(total)
        return result

    def aggregate(self) -> Tensor:  # type: ignore[override]
        """Returns the distance, a float64 scalar."""
        return torch.tensor(self.report()["value"], dtype=torch.float64)

    def report(self) -> dict[str, Any]:
        """Value, number of images and features, network; warns where there are fewer images than features."""
        a, b = self.merged()
        result: dict[str, Any] = {
            "value": frechet_distance(a.mean, a.covariance, b.mean, b.covariance),
            "n": {"generated": a.n, "real": b.n},
            "feature_size": len(a.mean),
            "network": self.features.describe(),
        }
        if min(a.n, b.n) < len(a.mean):
            result["warning"] = (
                f"{min(a.n, b.n)} images for {len(a.mean)} features: the covariances are singular and the value is "
                "biased upwards; compare it only with values of the same n and network."
            )
            warnings.warn(f"{self.label}: {result['warning']}", stacklevel=2)
        return result


class KernelDistanceMetric(CumulativeIterationMetric):
    """
    KID between generated and real volumes; keeps the features, not the volumes.

    Args:
        features: the network and its preprocessing; its name stands in the result.

    Source: Bińkowski et al. 2018.
    """

    def __init__(self, features: FeatureNetwork) -> None:
        super().__init__()
        self.features = features

    @property
    def label(self) -> str:
        """Such as ``kid[med3d_resnet50]``."""
        return f"kid[{self.features.label}]"

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **kwargs: Any) -> list[Tensor]:  # type: ignore[override]
        if y is None:
            raise ValueError("The kernel distance needs generated and real images.")
        return [self.features(y_pred).cpu(), self.features(y).cpu()]

    def aggregate(self) -> Tensor:  # type: ignore[override]
        """Returns the distance, a float64 scalar."""
        return torch.tensor(self.report()["value"], dtype=torch.float64)

    def report(self) -> dict[str, Any]:
        """Value, number of images, network."""
        generated, real = self.get_buffer()
        return {
            "value": kid(generated, real),
            "n": {"generated": len(generated), "real": len(real)},
            "feature_size": generated.shape[1],
            "network": self.features.describe(),
        }
