"""Of synthetic images those that a classifier of the real sample takes for their class."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from ..data.datalist import Case
from ..data.sample_record import names_digest
from ..data.study import load_images
from ..networks.classifier import load_classifier
from .fold_files import record_of
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
        transform: loads, checks and resizes a case, and adds "class_index".
        classes: names in the order of the outputs.
        plan: batches and device.

    Raises:
        FileNotFoundError: without the weights or their record.
        ValueError: when the weights belong to another network or another record; (when called) when they were trained
            on anything but the sample.
    """

    def __init__(
        self,
        network: nn.Module,
        weights: str | Path,
        transform: Callable[[Any], Any],
        classes: Sequence[str],
        plan: TrainingPlan,
    ) -> None:
        record_of(weights)  # what is missing is named before the weights are loaded
        self.weights = Path(weights)
        self.network = load_classifier(network, weights, plan.device)
        self.transform = transform
        self.classes = list(classes)
        self.plan = plan

    def __call__(self, cases: Sequence[Case], sample: Sequence[Case]) -> list[Case]:
        """
        Those of ``cases`` that are recognised, in their order; the log says what the others are taken for.

        Args:
            cases: synthetic images.
            sample: the real images that the diffusion model was trained on.
        """
        check_trained_on(self.weights, sample)
        loaded = load_images(cases, self.transform)
        drawn = np.array([int(case["class_index"]) for case in loaded])
        found = predict(self.network, loaded, self.plan).argmax(1)
        for index, name in enumerate(self.classes):
            taken = np.bincount(found[drawn == index], minlength=len(self.classes))
            shares = ", ".join(f"{other} {n}" for other, n in zip(self.classes, taken))
            logger.info("%d images drawn as %s are taken for: %s", taken.sum(), name, shares)
        logger.info("%d of %d synthetic images are recognised", (found == drawn).sum(), len(drawn))
        return [case for case, same in zip(cases, found == drawn) if same]


def check_trained_on(weights: Path, sample: Sequence[Case]) -> None:
    """
    Refuse a classifier that has seen other images than those of the real sample.

    Args:
        weights: file of the classifier; ``CrossValidation`` writes its record beside it.
        sample: the real images that the diffusion model was trained on.

    Raises:
        FileNotFoundError: when either file is missing.
        ValueError: when it was trained on other images, or its record is of other weights.
    """
    identity = record_of(weights)["identity"]
    train_on = identity["settings"].get("train_on")
    if train_on != "real" or identity["sample"] != names_digest(sample):
        found = f"the images of train_on {train_on!r}" if train_on != "real" else "another sample"
        raise ValueError(
            f"{weights} was trained on {found}; a classifier of the same real sample (real_20.json, same split, "
            "fraction and split_seed) was expected: another may have seen images that are tested on."
        )
