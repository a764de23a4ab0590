"""Fréchet and kernel distance of features (FID, KID), under the name of the network that gave the features."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Iterator
from typing import Any

import torch
from monai.metrics import CumulativeIterationMetric
from monai.utils import evenly_divisible_all_gather
from torch import Tensor

from ..features.feature_sets import FeatureSetMetric
from ..features.features import FeatureNetwork
from .frechet import GaussianStatistics, GroupedStatistics, Pair, frechet_distance, frechet_interval, mean_distance
from .mmd import mmd2_bootstrap_interval, mmd2_unbiased
from .sets import in_order_of_mean

# Of more features than this, ten more distances take minutes and ten groups of statistics gigabytes.
_MOST_FEATURES_FOR_GROUPS = 512


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


def fid_interval(generated: Tensor, real: Tensor, groups: int = 10) -> list[float] | None:
    """
    Interval of 95 % of ``fid`` by the jackknife over groups of images, row i in group i modulo ``groups``.

    Args:
        generated: (n, d).
        real: (m, d).
        groups: number of groups.

    Returns:
        ``[low, high]``, or None for too few images; see ``frechet.frechet_interval``.
    """
    pair = GroupedStatistics(generated.shape[-1], groups), GroupedStatistics(real.shape[-1], groups)
    for own, features in zip(pair, (generated, real)):
        for group in range(min(groups, len(features))):
            own.update(features[group::groups], group)
    return frechet_interval([pair], fid(generated, real))


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
    return mmd2_unbiased(generated, real, cubic_kernel)


def kid_interval(generated: Tensor, real: Tensor, seed: int = 0, resamples: int = 1000) -> list[float] | None:
    """Percentile bootstrap interval of 95 % of ``kid`` over images; see ``mmd.mmd2_bootstrap_interval``."""
    return mmd2_bootstrap_interval(generated, real, cubic_kernel, seed, resamples)


def cubic_kernel(x: Tensor, y: Tensor) -> Tensor:
    """(x.y / d + 1)^3, (n, d) and (m, d) -> (n, m)."""
    return (x @ y.mT / x.shape[-1] + 1) ** 3


class FrechetDistanceMetric(CumulativeIterationMetric):
    """
    FID between generated and real images, 2D or 3D, streaming: features are merged into means and covariances.

    Memory does not grow with the number of images: ten groups of statistics (d + 1) d float64 a set, for the interval.

    MONAI 1.6.1 has ``FIDMetric``. It is not used: it takes all features at once, it does not accumulate over
    iterations or processes, and its root of the product of two covariances is ``scipy.linalg.sqrtm`` with a fallback
    that adds 1e-6 to the diagonal. With fewer images than features, as with every medical set, both covariances are
    singular and that root is unreliable.

    Args:
        features: the network and its preprocessing; its name stands in the result.
        groups: of the jackknife interval, 1 for none; None for 10, or for none above 512 features.

    Source: Med-DDPM, section III (3D-FID with histogram equalisation); Heusel et al. 2017.
    """

    def __init__(self, features: FeatureNetwork, groups: int | None = None) -> None:
        if groups is not None and groups < 1:
            raise ValueError(f"groups must be at least 1, got {groups}.")
        self.features, self.groups = features, groups
        super().__init__()

    @property
    def label(self) -> str:
        """Such as ``fid[med3d_resnet50, equalised]``."""
        return f"fid[{self.features.label}]"

    def reset(self) -> None:
        """Forget all features."""
        super().reset()
        self._statistics: dict[str, Pair] = {}
        self._cases = [0, 0]

    def views(self, images: Tensor) -> Iterator[tuple[int, str, Tensor]]:
        """Feature vectors of a batch: index of the image in it, name of the distance they belong to, (n, d)."""
        for index, vector in enumerate(self.features(images)):
            yield index, "", vector[None]

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **kwargs: Any) -> Tensor:
        if y is None:
            raise ValueError("The Fréchet distance needs generated and real images.")
        for side, images in enumerate((y_pred, y)):
            # Pairs stay together, and a group does not hang on the order or the process in which an image is seen.
            marks = [_mark(image) for image in (y if len(y) == len(y_pred) else images)]
            for index, view, vectors in self.views(images):
                own = self._sets(view, vectors.shape[1])[side]
                own.update(vectors, marks[index] % len(own.parts))
            self._cases[side] += len(images)
        return torch.ones(len(y_pred), 1)

    def _sets(self, view: str, size: int) -> Pair:
        if view not in self._statistics:
            groups = self.groups or (10 if size <= _MOST_FEATURES_FOR_GROUPS else 1)
            self._statistics[view] = GroupedStatistics(size, groups), GroupedStatistics(size, groups)
        return self._statistics[view]

    def merged(self) -> dict[str, Pair]:
        """Statistics of generated and real features over all processes, by view."""
        if not self._statistics:
            raise ValueError(f"{self.label}: no images seen.")
        return {view: (_gathered(a), _gathered(b)) for view, (a, b) in self._statistics.items()}

    def aggregate(self) -> Tensor:  # type: ignore[override]
        """Returns the distance, a float64 scalar."""
        return torch.tensor(self.report()["value"], dtype=torch.float64)

    def report(self) -> dict[str, Any]:
        """Value, interval, number of images and features, network; warns where there are fewer images than features."""
        ((_, pair),) = self.merged().items()
        generated, real = (own.without() for own in pair)
        return {
            **self._measured([pair], "images"),
            "n": {"generated": generated.n, "real": real.n},
            "feature_size": len(real.mean),
            "network": self.features.describe(),
            **self._warning(min(generated.n, real.n), len(real.mean), "images"),
        }

    def _measured(self, pairs: list[Pair], what: str) -> dict[str, Any]:
        """Mean distance of the pairs, its interval and how that was found."""
        value = mean_distance(pairs)
        interval = frechet_interval(pairs, value)
        groups = len(pairs[0][0].parts)
        how = {"interval_by": f"jackknife over {groups} groups of {what}; the bias of few images is not in it"}
        return {"value": value, "interval95": interval, **(how if interval else {})}

    def _warning(self, n: int, size: int, what: str) -> dict[str, str]:
        if n >= size:
            return {}
        text = (
            f"{n} {what} for {size} features: the covariances are singular and the value is biased upwards; "
            "compare it only with values of the same n and network."
        )
        warnings.warn(f"{self.label}: {text}", stacklevel=3)
        return {"warning": text}


def _mark(image: Tensor) -> int:
    """A number that is the same for the same image."""
    return zlib.crc32(image.detach().cpu().float().contiguous().numpy().tobytes())


def _gathered(own: GroupedStatistics) -> GroupedStatistics:
    size = len(own.parts[0].mean)
    total = GroupedStatistics(size, len(own.parts))
    for part, merged in zip(own.parts, total.parts):
        for row in evenly_divisible_all_gather(part.packed().unsqueeze(0), concat=True):
            merged.merge(GaussianStatistics.unpacked(row, size))
    return total


class KernelDistanceMetric(FeatureSetMetric):
    """
    KID between generated and real images; keeps the features, not the images.

    Args:
        features: the network and its preprocessing; its name stands in the result.
        seed: of the interval's draws.
        resamples: of the interval; 0 for none.

    Source: Bińkowski et al. 2018.
    """

    def __init__(self, features: FeatureNetwork, seed: int = 0, resamples: int = 1000) -> None:
        super().__init__(features)
        self.seed, self.resamples = seed, resamples

    @property
    def label(self) -> str:
        """Such as ``kid[med3d_resnet50]``."""
        return f"kid[{self.features.label}]"

    def _evaluate(self, real: Tensor, generated: Tensor) -> dict[str, Any]:
        generated, real = (torch.stack(in_order_of_mean(list(rows))) for rows in (generated, real))
        result: dict[str, Any] = {"value": kid(generated, real), "interval95": None}
        if self.resamples:
            result["interval95"] = kid_interval(generated, real, self.seed, self.resamples)
            result["interval_by"] = f"bootstrap over images, {self.resamples} resamples, seed {self.seed}"
        return result
