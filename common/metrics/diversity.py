"""MS-SSIM of random pairs within a set, as its diversity, with an interval over images."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from torch import Tensor

from .base import SIDES, SetMetric, centre_crop, common_size, order_of_mean, side_of
from .intervals import bootstrap_interval
from .ssim import Scales, ms_ssim, scales_for


class SetMSSSIM(SetMetric):
    """
    Mean MS-SSIM over random pairs within a set: the lower, the more diverse. Read it beside the real data's.

    The two images of a pair are cropped at their centres to their common size. Window and number of scales are those
    of the smallest common size of the whole set, so that all pairs are measured alike; they are recorded.

    Args:
        of: "generated" or "real", the set to look at.
        num_pairs: pairs drawn without replacement; all of them where there are fewer.
        value_range: smallest and largest possible value; intensities are counted from the smallest.
        seed: of the draw; the same seed gives the same pairs for sets of the same length.
        max_images: kept of each set and process.
        title: of what the images show, such as a modality; stands in the label.

    Raises:
        ValueError: for another ``of``.

    Source: Med-DDPM, Table I (MS-SSIM beside the real data's).

    >>> import torch
    >>> metric = SetMSSSIM()
    >>> _ = metric(torch.zeros(3, 1, 12, 12))  # three copies
    >>> float(metric.aggregate()), metric.report()["pairs"]
    (1.0, 3)
    """

    def __init__(
        self,
        of: str = "generated",
        num_pairs: int = 200,
        value_range: Sequence[float] = (-1.0, 1.0),
        seed: int = 0,
        max_images: int = 256,
        title: str = "",
    ) -> None:
        super().__init__(max_images=max_images)
        self.title = title
        self.of, self.num_pairs, self.seed = side_of(of), num_pairs, seed
        self.value_range = (float(value_range[0]), float(value_range[1]))

    @property
    def label(self) -> str:
        """``ms_ssim`` or ``ms_ssim_real``, with a title such as ``ms_ssim[t1]``."""
        return ("ms_ssim" if self.of == "generated" else "ms_ssim_real") + (f"[{self.title}]" if self.title else "")

    def _evaluate(self, generated: list[Tensor], real: list[Tensor]) -> dict[str, Any]:
        """Mean, its interval over images, number of images and pairs, scales."""
        images = generated if self.of == "generated" else real
        order, sets = order_of_mean(images), self.groups_of_sets()
        groups = sets and [sets[SIDES.index(self.of)][i] for i in order]
        images = [images[i] for i in order]
        pairs = random_pairs(len(images), self.num_pairs, self.seed)
        size = common_size(images)
        scales = scales_for(size)
        values = [self._of_pair(images[i], images[j], scales) for i, j in pairs]
        return {
            "value": float(np.mean(values)),
            "interval95": interval_over_images(pairs, values, self.seed, groups),
            "n": len(images),
            "pairs": len(pairs),
            "seed": self.seed,
            "smallest_common_size": list(size),
            "value_range": list(self.value_range),
            "scales": asdict(scales),
        }

    def _of_pair(self, a: Tensor, b: Tensor, scales: Scales) -> float:
        low, high = self.value_range
        size = common_size([a, b])
        a, b = (centre_crop(v, size)[None] - low for v in (a, b))
        return float(ms_ssim(a, b, high - low, scales))


def random_pairs(n: int, num_pairs: int, seed: int = 0) -> list[tuple[int, int]]:
    """
    ``num_pairs`` of the n (n - 1) / 2 pairs of different indices, or all, sorted.

    Raises:
        ValueError: for fewer than two images.
    """
    if n < 2:
        raise ValueError(f"Pairs need at least two images, got {n}.")
    pairs = list(itertools.combinations(range(n), 2))
    return pairs if len(pairs) <= num_pairs else sorted(random.Random(seed).sample(pairs, num_pairs))


def interval_over_images(
    pairs: list[tuple[int, int]], values: list[float], seed: int, groups: Sequence[str] | None = None
) -> list[float] | None:
    """Bootstrap over images, or groups of them, not pairs: a pair counts as often as its images were drawn together."""
    n = 1 + max(j for _, j in pairs)
    first, second = np.array(pairs).T
    scores = np.array(values)
    names = np.asarray(range(n) if groups is None else groups[:n])
    alike = names[first] == names[second]

    def statistic(drawn: np.ndarray) -> float:
        times = np.bincount(drawn.astype(int), minlength=n)
        weight = times[first] * np.where(alike, 1, times[second])  # copies of a group are not paired, see PairSums
        return float((weight * scores).sum() / weight.sum()) if weight.any() else float(scores.mean())

    return bootstrap_interval(np.arange(n), statistic, seed, clusters=names)
