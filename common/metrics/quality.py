"""Quality control of generated images: what a network reads in them, and their grey values, against real images."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..features.segmenter import Segmenter
from ..utils.files import sha256_of, write_json
from ..utils.images import plain_images
from .consistency import mask_dice
from .sharpness import acutance, grain

ONE_SIDED = {"dice": "low", "worst_dice": "low", "flat": "high", "margin": "low", "band": "high"}
"""Scores of which one end alone is bad."""

_QUANTILES = (1.0, 99.0)
_DOUBTFUL = 4.0
_MARGIN = 0.5  # of the distance of the quantiles, beyond them: training volumes are read a little too well

logger = logging.getLogger(__name__)


def quality_scores(images: Tensor, masks: Tensor, segmenter: Segmenter) -> list[dict[str, float]]:
    """
    What is looked at in a volume.

    Args:
        images: (N, 1, X, Y, Z), in [-1, 1].
        masks: (N, L, X, Y, Z), a channel a label, above 0 inside.
        segmenter: reads the labels.

    Returns:
        A case each: "dice", the mean over its labels of the agreement of mask and segmenter, and "worst_dice", of the
        label with the least; "mean" and "spread" (standard deviation) of the grey values; "acutance" and "grain";
        "flat", the share of voxels that are equal to all their neighbours, as where a volume is cut off.
    """
    plain = plain_images(images).float()
    device = segmenter.device
    read = mask_dice(plain.to(device), masks.to(device), segmenter.network, segmenter.divisor).cpu()
    values = {
        "dice": read.nanmean(1).nan_to_num(nan=1.0),  # nothing to be read, and nothing read
        "worst_dice": torch.nan_to_num(read, nan=1.0).amin(1),
        "mean": plain.flatten(1).mean(1),
        "spread": plain.flatten(1).std(1),
        "acutance": acutance(plain, 1.0),
        "grain": grain(plain),
        "flat": _flat(plain),
    }
    return by_case(values)


def by_case(values: Mapping[str, Tensor]) -> list[dict[str, float]]:
    """Name -> (N,) as a mapping of rounded numbers a case."""
    count = len(next(iter(values.values())))
    return [{name: round(float(column[n]), 5) for name, column in values.items()} for n in range(count)]


def _flat(images: Tensor) -> Tensor:
    """Share of the voxels whose next ones along every axis have the same value."""
    inner = (slice(None), slice(None), *(slice(1, None) for _ in images.shape[2:]))
    same = torch.ones_like(images[inner], dtype=torch.bool)
    for axis in range(2, images.ndim):
        same &= (images == torch.roll(images, 1, axis))[inner]
    return same.flatten(1).float().mean(1)


class QualityCheck:
    """
    Whether a volume lies within what training volumes are like.

    Args:
        ranges: JSON file of ``fit_quality``.
        segmenter: that the ranges were found with.
        labels: name -> value, of the masks.

    Raises:
        FileNotFoundError: when there are no ranges.
        ValueError: when they are of other labels or of another segmenter.

    >>> QualityCheck.failed_in({"dice": 0.4, "grain": 1.0}, {"dice": [0.6, 0.9], "grain": [0.1, 2.0]})
    ['dice']
    """

    def __init__(self, ranges: str | Path, segmenter: Segmenter, labels: Mapping[str, int]) -> None:
        content = read_ranges(ranges)
        found = (content["labels"], content["segmenter_sha256"])
        if found != (dict(labels), sha256_of(segmenter.weights)):
            raise ValueError(
                f"{ranges} is of the labels {content['labels']}, or of another segmenter than {segmenter.weights}; the "
                f"masks have {dict(labels)}: make one with fit_quality.json, or switch the check off "
                "(--check_quality False)."
            )
        self.ranges: dict[str, list[float]] = content["ranges"]
        self.segmenter = segmenter

    def __call__(self, images: Tensor, masks: Tensor) -> list[dict[str, Any]]:
        """Scores of each case, and under "failed" the names of those out of range; shapes as ``quality_scores``."""
        scores = quality_scores(images, masks, self.segmenter)
        return [{**one, "failed": self.failed_in(one, self.ranges)} for one in scores]

    @staticmethod
    def failed_in(scores: Mapping[str, float], ranges: Mapping[str, Sequence[float]]) -> list[str]:
        """Names of the scores that lie out of their range."""
        out = []
        for name, (low, high) in ranges.items():
            side = ONE_SIDED.get(name)
            if name in scores and ((side != "high" and scores[name] < low) or (side != "low" and scores[name] > high)):
                out.append(name)
        return out


def fit_quality(
    cases: Sequence[Mapping[str, Any]],
    transform: Callable[[dict[str, Any]], Mapping[str, Any]],
    segmenter: Segmenter,
    labels: Mapping[str, int],
    out: str | Path,
) -> Path:
    """
    Find the range of each score in real training volumes, and write it.

    The range is that from percentile 1 to 99, and half of its width more on each side.

    Args:
        cases: with the paths "image" and "label".
        transform: case -> "image" (1, X, Y, Z) in [-1, 1] and "label" (L, X, Y, Z).
        segmenter: see ``QualityCheck``.
        labels: likewise.
        out: JSON file.

    Raises:
        ValueError: for fewer than 20 cases, whose percentiles say nothing.
    """
    check_enough(len(cases))
    rows: list[dict[str, float]] = []
    for case in cases:
        loaded = transform(dict(case))
        rows += quality_scores(loaded["image"][None], loaded["label"][None], segmenter)
    ranges, digest = ranges_of(rows), sha256_of(segmenter.weights)
    return write_ranges({"ranges": ranges, "labels": dict(labels), "segmenter_sha256": digest, "n": len(rows)}, out)


def check_enough(count: int) -> None:
    """
    Refuse fewer than 20 images, whose percentiles say nothing.

    Raises:
        ValueError: says what to do instead.
    """
    if count < 20:
        raise ValueError(
            f"{count} training images give no range; at least 20 were expected. Without ranges, look at the contact "
            "sheet of what is generated."
        )


def ranges_of(rows: Sequence[Mapping[str, float]], margin: float = _MARGIN) -> dict[str, list[float]]:
    """
    The range of each score: percentile 1 to 99, and a share of its width more on each side.

    A "margin" of a classifier has no such room, since its long tail would hide every other class: it is low below 0, or
    below percentile 4 of real images where the classifier takes more of them for another class.

    Args:
        rows: scores of real images, at least 20.
        margin: that share.

    Raises:
        ValueError: for fewer images, whose percentiles say nothing.
    """
    check_enough(len(rows))
    ranges = {}
    for name in rows[0]:
        values = [row[name] for row in rows]
        low, high = np.percentile(values, _QUANTILES)
        room = margin * (high - low)
        if name == "margin":
            low, room = min(0.0, float(np.percentile(values, _DOUBTFUL))), 0.0
        ranges[name] = [round(float(low - room), 5), round(float(high + room), 5)]
    return ranges


def read_ranges(ranges: str | Path) -> dict[str, Any]:
    """The content of a file of ranges; raises FileNotFoundError where there is none."""
    if not Path(ranges).is_file():
        raise FileNotFoundError(f"No {ranges}: fit_quality.json makes it from the training images.")
    return json.loads(Path(ranges).read_text(encoding="utf-8"))


def write_ranges(content: Mapping[str, Any], out: str | Path) -> Path:
    """Write a file of ranges, whole."""
    path = write_json(out, content, 1)
    logger.info(f"Wrote {out}: ranges of {content['n']} training images")
    return path
