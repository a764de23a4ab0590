"""Of synthetic images those that a classifier of the real sample takes for their class."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from ..data.datalist import Case
from ..data.study import load_images
from ..networks.classifier import load_classifier
from .fold_training import TrainingPlan, predict

logger = logging.getLogger(__name__)


class KeepRecognised:
    """
    Keep the images to which a classifier of ``classify.json`` gives the class that they were drawn for.

    The classifier must have seen the real sample only, as the diffusion model has: one that was trained on more would
    carry what it knows of the test images into the set.

    Args:
        network: of the classifier, (N, C, H, W) in [-1, 1] -> (N, classes) logits.
        weights: file of the classifier, ``<study>/<architecture>/fold_<k>.pt``; its record lies beside it.
        sample: settings of the record that must be the same, such as "split", "fraction" and "split_seed".
        transform: loads, checks and resizes a case, and adds "class_index".
        classes: names in the order of the outputs.
        plan: batches and device.

    Raises:
        FileNotFoundError: without the weights or their record.
        ValueError: when the weights belong to another network, or were trained on anything but this sample.
    """

    def __init__(
        self,
        network: nn.Module,
        weights: str | Path,
        sample: Mapping[str, Any],
        transform: Callable[[Any], Any],
        classes: Sequence[str],
        plan: TrainingPlan,
    ) -> None:
        check_trained_on(Path(weights), sample)
        self.network = load_classifier(network, weights, plan.device)
        self.transform = transform
        self.classes = list(classes)
        self.plan = plan

    def __call__(self, cases: Sequence[Case]) -> list[Case]:
        """Those of ``cases`` that are recognised, in their order; the log says what the others are taken for."""
        loaded = load_images(cases, self.transform)
        drawn = np.array([int(case["class_index"]) for case in loaded])
        found = predict(self.network, loaded, self.plan).argmax(1)
        for index, name in enumerate(self.classes):
            taken = np.bincount(found[drawn == index], minlength=len(self.classes))
            shares = ", ".join(f"{other} {n}" for other, n in zip(self.classes, taken))
            logger.info("%d images drawn as %s are taken for: %s", taken.sum(), name, shares)
        logger.info("%d of %d synthetic images are recognised", (found == drawn).sum(), len(drawn))
        return [case for case, same in zip(cases, found == drawn) if same]


def check_trained_on(weights: Path, sample: Mapping[str, Any]) -> None:
    """
    Refuse a classifier that has seen other images than those of the real sample.

    Args:
        weights: file of the classifier; ``CrossValidation`` writes its record beside it.
        sample: settings that the record must have, next to "train_on": "real".

    Raises:
        FileNotFoundError: when either file is missing.
        ValueError: when a setting differs.
    """
    record = weights.with_suffix(".json")
    for path in (weights, record):
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} was expected: a classifier trained by classify.json with real_20.json, with its record."
            )
    settings = json.loads(record.read_text())["identity"]["settings"]
    wanted = {"train_on": "real", **sample}
    other = {name: settings.get(name) for name, value in wanted.items() if settings.get(name) != value}
    if other:
        expected = {name: wanted[name] for name in other}
        raise ValueError(
            f"{weights} was trained with {other}, expected {expected}: it may have seen images that are tested on."
        )
