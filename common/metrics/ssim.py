"""Structural similarity of pairs, at one scale (SSIM) and at several (MS-SSIM)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..utils.images import plain_images
from .base import check_range, gathered, same_shape
from .fidelity import FidelityMetric

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


@dataclass(frozen=True)
class Scales:
    """
    Window and weights of SSIM or MS-SSIM.

    Attributes:
        window: side of the Gaussian window in voxels, odd.
        sigma: its standard deviation in voxels.
        weights: one a scale, adding up to 1; a single one for SSIM.

    >>> scales_for((32, 40)).window, len(scales_for((32, 40)).weights)
    (11, 2)
    """

    window: int
    sigma: float
    weights: tuple[float, ...]


def scales_for(size: Sequence[int], most: int = 5) -> Scales:
    """
    The window of 11 with sigma 1.5, and as many of the five scales as keep every side at least as long as it.

    Sides of 32 have two scales, 64 three, 128 four, 176 five; the weights are the first of the paper's, divided by
    their sum. A side below 11 gets one scale and the largest odd window that fits, its sigma in proportion.

    Args:
        size: sides in voxels.
        most: largest number of scales; 1 for SSIM.

    Raises:
        ValueError: for a side below 3.

    Source: Wang, Simoncelli, Bovik 2003, section 3 (weights, window).
    """
    side = min(size)
    if side < 3:
        raise ValueError(f"SSIM and MS-SSIM need sides of at least 3 voxels, got {tuple(size)}.")
    window = min(11, side if side % 2 else side - 1)
    number = next(m for m in range(most, 0, -1) if side // 2 ** (m - 1) >= window)
    weights = WEIGHTS[:number]
    return Scales(window, 1.5 * window / 11, tuple(w / sum(weights) for w in weights))


def ssim(x: Tensor, y: Tensor, data_range: float = 2.0) -> Tensor:
    """
    Structural similarity: its map's mean over all places where the Gaussian window fits, and over channels.

    The number of scikit-image's ``structural_similarity`` with ``gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False`` and of MONAI's ``SSIMMetric`` (both tested). The luminance term compares means from 0
    upwards: the same images in [-1, 1] and in [0, 2] have different SSIM. Published values belong to images from 0;
    ``StructuralSimilarity`` shifts them so, this function does not.

    Args:
        x: (N, C, *spatial), sides of at least 3; below 11 the window shrinks, see ``scales_for``.
        y: the same shape.
        data_range: largest minus smallest possible value.

    Returns:
        (N,), float64, in [-1, 1].

    Raises:
        ValueError: for different shapes, NaN, sides that are too short, or values that span more than ``data_range``.

    Source: Wang et al. 2004, eq. 13, K = (0.01, 0.03).
    """
    x, y = _checked_pair(x, y, data_range)
    luminance, contrast = _terms(x, y, scales_for(x.shape[2:], 1), data_range)
    return (luminance * contrast).flatten(1).mean(1)


def ms_ssim(x: Tensor, y: Tensor, data_range: float = 2.0, scales: Scales | None = None) -> Tensor:
    """
    MS-SSIM of pairs of images, in float64.

    Each term is averaged over voxels and channels together, as in MONAI's ``MultiScaleSSIMMetric``, which gives the
    same number where it runs; pytorch-msssim keeps channels apart, so that only its values of one channel are the same
    (both tested). As of ``ssim``, the luminance term compares means counted from 0.

    Args:
        x: (N, C, *spatial).
        y: the same shape.
        data_range: largest minus smallest possible value; 2 for images in [-1, 1].
        scales: window and weights; None for ``scales_for`` the size.

    Returns:
        (N,), float64, at most 1; a negative contrast term counts as 0.

    Raises:
        ValueError: for different shapes, NaN, sides that are too short, or values that span more than ``data_range``.

    Source: Wang, Simoncelli, Bovik 2003, eq. 7, K = (0.01, 0.03).
    """
    x, y = _checked_pair(x, y, data_range)
    scales = scales or scales_for(x.shape[2:])
    pool = F.avg_pool3d if x.ndim == 5 else F.avg_pool2d
    result = torch.ones(len(x), dtype=torch.float64, device=x.device)
    for level, weight in enumerate(scales.weights):
        if level:
            x, y = pool(x, 2), pool(y, 2)
        luminance, contrast = _terms(x, y, scales, data_range)
        term = luminance * contrast if level == len(scales.weights) - 1 else contrast
        result = result * term.flatten(1).mean(1).clamp(min=0) ** weight
    return result


def _checked_pair(x: Tensor, y: Tensor, data_range: float) -> tuple[Tensor, Tensor]:
    y = same_shape(x, y)
    x, y = plain_images(x).double(), plain_images(y).double()
    check_range(data_range, x, y)
    return x, y


def _terms(x: Tensor, y: Tensor, scales: Scales, data_range: float) -> tuple[Tensor, Tensor]:
    """Luminance and contrast-structure, (N, C, *smaller spatial); their product is SSIM (Wang et al. 2004, eq. 6)."""
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


class StructuralSimilarity(FidelityMetric):
    """
    SSIM of each pair, of intensities counted from the lower end of the range; see ``ssim``.

    Args:
        value_range: smallest and largest possible value; images with values outside it are refused.

    >>> metric = StructuralSimilarity()
    >>> _ = metric(torch.zeros(1, 1, 12, 12), torch.zeros(1, 1, 12, 12))
    >>> float(metric.aggregate()), metric.report()["window"]
    (1.0, 11)
    """

    name = "ssim"
    most_scales = 1

    def __init__(self, value_range: Sequence[float] = (-1.0, 1.0)) -> None:
        super().__init__(value_range)

    def reset(self) -> None:
        """Forget all pairs."""
        super().reset()
        self._seen: Counter[tuple[int, int]] = Counter()

    def _of_pairs(self, x: Tensor, y: Tensor, mask: Tensor | None) -> Tensor:
        scales = scales_for(x.shape[2:], self.most_scales)
        self._seen[scales.window, len(scales.weights)] += len(x)
        return self._similarity(x - self.value_range[0], y - self.value_range[0])

    def _similarity(self, x: Tensor, y: Tensor) -> Tensor:
        return ssim(x, y, self.data_range)

    def scales(self) -> list[dict[str, int]]:
        """Windows and numbers of scales, each with the number of pairs of all processes that were measured so."""
        seen: Counter[tuple[int, int]] = sum(gathered(self._seen), Counter())
        return [{"window": w, "scales": m, "pairs": n} for (w, m), n in sorted(seen.items())]

    def report(self) -> dict[str, Any]:
        """Range and window; several windows where images of several small sizes were seen."""
        windows = [entry["window"] for entry in self.scales()]
        return {"value_range": list(self.value_range), "window": windows[0] if len(windows) == 1 else windows}


class PairedMSSSIM(StructuralSimilarity):
    """
    MS-SSIM between each generated image and the real one of the same condition (fidelity); see ``ms_ssim``.

    Window and number of scales go by each pair's own size and are reported; values over different numbers of scales
    are not on one footing. Intensities are counted from the lower end of the range, as published values mean it.

    Args:
        value_range: smallest and largest possible value; images with values outside it are refused.

    Source: Wang, Simoncelli, Bovik 2003.

    >>> metric = PairedMSSSIM()
    >>> _ = metric(torch.zeros(1, 1, 32, 32), torch.zeros(1, 1, 32, 32))
    >>> float(metric.aggregate()), metric.report()["scales"]
    (1.0, [{'window': 11, 'scales': 2, 'pairs': 1}])
    """

    name = "ms_ssim_paired"
    most_scales = 5

    def _similarity(self, x: Tensor, y: Tensor) -> Tensor:
        return ms_ssim(x, y, self.data_range)

    def report(self) -> dict[str, Any]:
        """Range, and the window and number of scales, with the number of pairs that were measured so."""
        return {"value_range": list(self.value_range), "scales": self.scales()}
