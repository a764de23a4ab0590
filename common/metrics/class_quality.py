"""Quality control of generated 2D images of a class, against the real training images of that class."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..utils.files import sha256_of
from ..utils.images import plain_images
from .quality import QualityCheck, by_case, ranges_of, read_ranges, write_ranges
from .sharpness import acutance, grain

_MARGIN = 0.2  # see ranges_of
_EVEN = 2.0  # grey levels of 255 that a line of a blank border may vary, standard deviation


def class_scores(images: Tensor, class_index: Tensor, classifier: nn.Module | None = None) -> list[dict[str, float]]:
    """
    What is looked at in an image of a class; grey values are rounded to 8 bits first, as they are stored.

    Args:
        images: (N, C, X, Y), in [-1, 1].
        class_index: (N,), of the class that was asked for.
        classifier: (N, C, X, Y) -> logits (N, classes), in eval mode; None for none.

    Returns:
        An image each: with a classifier "margin", the logit of its class less the largest of the others, above 0 where
        it is recognised; "mean" and "spread" as of ``quality_scores``; "log_acutance" and "log_grain", natural
        logarithms, since images of a class differ by factors; "band", the share of the image that the widest blank
        border covers, as where it is cut off.
    """
    plain = plain_images(images).float()
    values: dict[str, Tensor] = {}
    if classifier is not None:
        device = next((p.device for p in classifier.parameters()), plain.device)
        with torch.no_grad():
            logits = classifier(plain.to(device)).float().cpu()
        own = torch.nn.functional.one_hot(class_index.cpu().long().flatten(), logits.shape[1]).bool()
        values["margin"] = logits[own] - logits.masked_fill(own, -torch.inf).amax(1)
    stored = torch.round((plain + 1) * 127.5) / 127.5 - 1
    values |= {
        "mean": stored.flatten(1).mean(1),
        "spread": stored.flatten(1).std(1),
        "log_acutance": acutance(stored, 1.0).clamp(min=1e-6).log(),
        "log_grain": grain(stored).clamp(min=1e-6).log(),
        "band": torch.tensor([_band(image) for image in stored]),
    }
    return by_case(values)


def _band(image: Tensor) -> float:
    """Share of the (C, X, Y) image within the widest border whose lines vary by no more than ``_EVEN``."""
    widest = 0.0
    for axis in (1, 2):
        blank = image.movedim(axis, 0).flatten(1).std(1) * 127.5 < _EVEN
        for lines in (blank, blank.flip(0)):
            widest = max(widest, float(lines.long().cumprod(0).float().mean()))
    return widest


class ClassQualityCheck:
    """
    Whether an image lies within what the training images of its class are like.

    Args:
        ranges: JSON file of ``fit_class_quality``.
        classes: names, in the order of their numbers.
        spatial_size: sides of the images; the ranges are of one size.
        classifier: see ``class_scores``; without one nothing is said of the class.
        weights: file of the classifier, which must be that of the ranges.
        only: the class of all images, where the sampler is told none.

    Raises:
        FileNotFoundError: when there are no ranges.
        ValueError: when they are of other classes, another size or another classifier.

    Example:
        >>> ClassQualityCheck("none.json", ["a", "b"], (64, 64))
        Traceback (most recent call last):
        FileNotFoundError: No none.json: fit_quality.json makes it from the training images.
    """

    def __init__(
        self,
        ranges: str | Path,
        classes: Sequence[str],
        spatial_size: Sequence[int],
        classifier: nn.Module | None = None,
        weights: str | Path | None = None,
        only: str | None = None,
    ) -> None:
        content = read_ranges(ranges)
        found = (content["classes"], content["spatial_size"])
        same = classifier is None or content["classifier_sha256"] == (None if weights is None else sha256_of(weights))
        if found != (list(classes), list(spatial_size)) or not same:
            raise ValueError(
                f"{ranges} is of the classes {content['classes']} at {content['spatial_size']} pixels, or of another "
                f"classifier than {weights}; {list(classes)} at {list(spatial_size)} were expected: make one with "
                "fit_quality.json, or switch the check off (--check_quality False)."
            )
        self.classes, self.classifier = list(classes), classifier
        self.ranges: dict[str, dict[str, list[float]]] = content["ranges"]
        self.only = None if only is None else self.classes.index(only)

    def __call__(
        self, images: Tensor, conditions: Any = None, class_labels: Tensor | None = None
    ) -> list[dict[str, Any]]:
        """Scores of each image, and under "failed" the names of those out of the range of its class."""
        if class_labels is None and self.only is None:
            raise ValueError("The class of each image is needed, or the one class of all.")
        labels = torch.full((len(images),), self.only or 0) if class_labels is None else class_labels.cpu().flatten()
        scores = class_scores(images, labels, self.classifier)
        own = [self.ranges[self.classes[int(label)]] for label in labels]
        return [{**one, "failed": QualityCheck.failed_in(one, ranges)} for one, ranges in zip(scores, own)]


def fit_class_quality(
    cases: Sequence[Mapping[str, Any]],
    transform: Callable[[dict[str, Any]], Mapping[str, Any]],
    classes: Sequence[str],
    out: str | Path,
    classifier: nn.Module | None = None,
    weights: str | Path | None = None,
) -> Path:
    """
    Find the range of each score in the real training images of each class, and write it.

    See ``ranges_of``, here with a fifth of the width.

    Args:
        cases: with "image" and "class".
        transform: case -> "image", (C, X, Y) in [-1, 1].
        classes: names, in the order of their numbers.
        out: JSON file.
        classifier: see ``class_scores``.
        weights: its file, whose SHA-256 is kept.

    Raises:
        ValueError: for fewer than 20 images of a class, whose percentiles say nothing.
    """
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in classes}
    size: list[int] = []
    for case in cases:
        image = torch.as_tensor(transform(dict(case))["image"])
        size = list(image.shape[1:])
        index = torch.tensor([list(classes).index(case["class"])])
        rows[case["class"]] += class_scores(image[None], index, classifier)
    content = {
        "ranges": {name: ranges_of(own, _MARGIN) for name, own in rows.items()},
        "classes": list(classes),
        "spatial_size": size,
        "classifier_sha256": None if weights is None else sha256_of(weights),
        "n": {name: len(own) for name, own in rows.items()},
    }
    return write_ranges(content, out)
