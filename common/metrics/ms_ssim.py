"""Multi-scale structural similarity of small volumes: of pairs, and within a set as a measure of diversity."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from monai.metrics import CumulativeIterationMetric
from torch import Tensor
from torch.nn import functional as F

from .intervals import bootstrap_interval
from .sets import (
    VolumeSetMetric,
    centre_crop,
    check_range,
    common_size,
    in_order_of_mean,
    plain_images,
    same_shape,
)

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


@dataclass(frozen=True)
class Scales:
    """
    Window and weights of MS-SSIM.

    Attributes:
        window: side of the Gaussian window in voxels, odd.
        sigma: its standard deviation in voxels.
        weights: one a scale, adding up to 1.
    """

    window: int
    sigma: float
    weights: tuple[float, ...]


def scales_for(size: Sequence[int]) -> Scales:
    """
    The window of 11 and as many of the five scales as keep every side at least as long as it.

    Sides of 32 have two scales, 64 three, 128 four, 176 five; the weights are the first of the paper's, divided by
    their sum. A side below 11 gets one scale and the largest odd window that fits, its sigma in proportion.

    Args:
        size: sides in voxels.

    Raises:
        ValueError: for a side below 3.

    Source: Wang, Simoncelli, Bovik 2003, section 3 (weights, window).
    """
    side = min(size)
    if side < 3:
        raise ValueError(f"MS-SSIM needs sides of at least 3 voxels, got {tuple(size)}.")
    window = min(11, side if side % 2 else side - 1)
    number = next(m for m in range(5, 0, -1) if side // 2 ** (m - 1) >= window)
    weights = WEIGHTS[:number]
    return Scales(window, 1.5 * window / 11, tuple(w / sum(weights) for w in weights))


def ms_ssim(x: Tensor, y: Tensor, data_range: float = 2.0, scales: Scales | None = None) -> Tensor:
    """
    MS-SSIM of pairs of images, in float64.

    Each term is averaged over voxels and channels together, as MONAI does; pytorch-msssim keeps the channels apart to
    the end, so that only its values of one channel are the same (tested).

    MONAI's ``MultiScaleSSIMMetric`` gives the same number (tested) where it runs. It is not used inside: it judges
    the size by (scales - 1)^2 instead of 2^(scales - 1), so that it fails on small volumes and refuses some that are
    large enough, computes in float32, and its dense window costs 40 times the separable one in 3D.

    The luminance term compares means counted from 0: images in [-1, 1] have other, mostly lower values than the same
    images in [0, 2]. Published values belong to images from 0 up; this function takes the images as they are.

    Args:
        x: (N, C, *spatial).
        y: the same shape.
        data_range: largest minus smallest possible value; 2 for images in [-1, 1].
        scales: window and weights; None for ``scales_for`` the size.

    Returns:
        (N,), float64, at most 1; a negative contrast term counts as 0.

    Raises:
        ValueError: for different shapes, NaN, sides that are too short, a range that is not positive, or values that
            span more than it.

    Source: Wang, Simoncelli, Bovik 2003, eq. 7, K = (0.01, 0.03).
    """
    y = same_shape(x, y)
    x, y = plain_images(x).double(), plain_images(y).double()
    check_range(data_range, x, y)
    scales = scales or scales_for(x.shape[2:])
    pool = F.avg_pool3d if x.ndim == 5 else F.avg_pool2d
    result = torch.ones(len(x), dtype=torch.float64, device=x.device)
    for level, weight in enumerate(scales.weights):
        if level:
            x, y = pool(x, 2), pool(y, 2)
        luminance, contrast = ssim_terms(x, y, scales, data_range)
        term = luminance * contrast if level == len(scales.weights) - 1 else contrast
        result = result * term.flatten(1).mean(1).clamp(min=0) ** weight
    return result


def ssim_terms(x: Tensor, y: Tensor, scales: Scales, data_range: float) -> tuple[Tensor, Tensor]:
    """
    Luminance and contrast-structure of one scale, at all places where the window fits.

    Args:
        x: (N, C, *spatial), floating point.
        y: the same shape.
        scales: its window and sigma.
        data_range: largest minus smallest possible value.

    Returns:
        Two maps, (N, C, *smaller spatial); their product is SSIM.

    Source: Wang et al. 2004, eq. 6 and 13 with K = (0.01, 0.03).
    """
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    mu_x, mu_y, xx, yy, xy = (_blur(v, scales) for v in (x, y, x * x, y * y, x * y))
    contrast = (2 * (xy - mu_x * mu_y) + c2) / (xx - mu_x**2 + yy - mu_y**2 + c2)
    return (2 * mu_x * mu_y + c1) / (mu_x**2 + mu_y**2 + c1), contrast


def _blur(image: Tensor, scales: Scales) -> Tensor:
    """Gaussian window at all places where it fits, one axis after the other, as products with banded matrices."""
    offsets = torch.arange(scales.window, dtype=image.dtype, device=image.device) - (scales.window - 1) / 2
    window = torch.exp(-((offsets / scales.sigma) ** 2) / 2)
    window = window / window.sum()
    for axis in range(2, image.ndim):
        side = image.shape[axis]
        band = image.new_zeros(side - scales.window + 1, side)
        for k, value in enumerate(window):
            band.diagonal(k).fill_(value)
        image = (image.movedim(axis, -1) @ band.T).movedim(-1, axis)
    return image


class PairedMSSSIM(CumulativeIterationMetric):
    """
    MS-SSIM between each generated volume and the real one of the same condition (fidelity).

    Window and number of scales go by each pair's own size and are reported; values over different numbers of scales
    are not on one footing.

    Args:
        data_range: 2 for images in [-1, 1].
        lowest: the value that intensities are counted from. 0 takes images as they are; -1 for images in [-1, 1] is
            what published values mean.

    Source: Wang, Simoncelli, Bovik 2003.
    """

    def __init__(self, data_range: float = 2.0, lowest: float = 0.0) -> None:
        super().__init__()
        self.data_range = data_range
        self.lowest = lowest

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **kwargs: Any) -> Tensor:
        values = ms_ssim(y_pred - self.lowest, same_shape(y_pred, y) - self.lowest, self.data_range)
        scales = scales_for(y_pred.shape[2:])
        kind = values.new_tensor([[scales.window, len(scales.weights)]]).expand(len(values), 2)
        return torch.cat([values.unsqueeze(1), kind], dim=1)

    def per_case(self) -> Tensor:
        """MS-SSIM of each pair, (n,), float64."""
        return self.get_buffer()[:, 0]

    def aggregate(self) -> Tensor:  # type: ignore[override]
        """Returns the mean over all pairs."""
        return self.per_case().mean()

    def report(self) -> dict[str, Any]:
        """Range, and the window and number of scales, with the number of pairs that were measured so."""
        kinds, pairs = self.get_buffer()[:, 1:].long().unique(dim=0, return_counts=True)
        scales = [{"window": int(w), "scales": int(m), "pairs": int(n)} for (w, m), n in zip(kinds, pairs)]
        return {"data_range": self.data_range, "lowest": self.lowest, "scales": scales}


class SetMSSSIM(VolumeSetMetric):
    """
    Mean MS-SSIM over random pairs within a set: the lower, the more diverse. Read it beside the real data's.

    The two volumes of a pair are cropped at their centres to their common size. Window and number of scales are those
    of the smallest common size of the whole set, so that all pairs are measured alike; they are recorded.

    Args:
        of: "generated" or "real", the set to look at.
        num_pairs: pairs drawn without replacement; all of them where there are fewer.
        data_range: 2 for images in [-1, 1].
        seed: of the draw; the same seed gives the same pairs for sets of the same length.
        max_volumes: kept of each set and process.
        lowest: the value that intensities are counted from, see ``PairedMSSSIM``.

    Raises:
        ValueError: for another ``of``.

    Source: Med-DDPM, Table I (MS-SSIM beside the real data's).
    """

    def __init__(
        self,
        of: str = "generated",
        num_pairs: int = 200,
        data_range: float = 2.0,
        seed: int = 0,
        max_volumes: int = 256,
        lowest: float = 0.0,
    ) -> None:
        super().__init__(max_volumes)
        if of not in ("generated", "real"):
            raise ValueError(f"of must be 'generated' or 'real', got {of!r}.")
        self.of = of
        self.num_pairs = num_pairs
        self.data_range = data_range
        self.seed = seed
        self.lowest = lowest

    def _evaluate(self) -> dict[str, Any]:
        """Mean, its interval over volumes, number of volumes and pairs, scales."""
        volumes = in_order_of_mean(self.volumes()[0 if self.of == "generated" else 1])
        pairs = random_pairs(len(volumes), self.num_pairs, self.seed)
        size = common_size(volumes)
        scales = scales_for(size)
        values = [self._of_pair(volumes[i], volumes[j], scales) for i, j in pairs]
        return {
            "value": float(np.mean(values)),
            "interval95": _interval_over_volumes(pairs, values, self.seed),
            "n": len(volumes),
            "pairs": len(pairs),
            "seed": self.seed,
            "smallest_common_size": list(size),
            "data_range": self.data_range,
            "lowest": self.lowest,
            "scales": asdict(scales),
        }

    def _of_pair(self, a: Tensor, b: Tensor, scales: Scales) -> float:
        size = common_size([a, b])
        a, b = (centre_crop(v, size)[None] - self.lowest for v in (a, b))
        return float(ms_ssim(a, b, self.data_range, scales))


def random_pairs(n: int, num_pairs: int, seed: int = 0) -> list[tuple[int, int]]:
    """
    ``num_pairs`` of the n (n - 1) / 2 pairs of different indices, or all, sorted.

    Raises:
        ValueError: for fewer than two volumes.
    """
    if n < 2:
        raise ValueError(f"Pairs need at least two volumes, got {n}.")
    pairs = list(itertools.combinations(range(n), 2))
    return pairs if len(pairs) <= num_pairs else sorted(random.Random(seed).sample(pairs, num_pairs))


def _interval_over_volumes(pairs: list[tuple[int, int]], values: list[float], seed: int) -> list[float] | None:
    """Bootstrap over volumes, not pairs: a pair counts as often as both its volumes were drawn together."""
    n = 1 + max(j for _, j in pairs)
    first, second = np.array(pairs).T
    scores = np.array(values)

    def statistic(drawn: np.ndarray) -> float:
        times = np.bincount(drawn.astype(int), minlength=n)
        weight = times[first] * times[second]
        return float((weight * scores).sum() / weight.sum()) if weight.any() else float(scores.mean())

    return bootstrap_interval(np.arange(n), statistic, seed)
