"""Of synthetic images those that a classifier of the real sample takes for their class."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from ..data.lists import Case
from ..networks.classifiers import load_classifier
from .fold_files import record_of
from .fold_training import TrainingPlan, predict
from .study import load_images

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
    """

    def __init__(
        self,
        network: nn.Module,
        weights: str | Path,
        transform: Callable[[Any], Any],
        classes: Sequence[str],
        plan: TrainingPlan,
    ) -> None:
        self.network = network
        self.weights = weights
        self.transform = transform
        self.classes = list(classes)
        self.plan = plan

    def __call__(self, cases: Sequence[Case], sample: Sequence[Case]) -> list[Case]:
        """
        Those of ``cases`` that are recognised, in their order; the log says what the others are taken for.

        Args:
            cases: synthetic images.
            sample: the real images that the diffusion model was trained on.

        Raises:
            FileNotFoundError: without the weights or their record.
            ValueError: when the weights belong to another network or record, or saw anything but the sample.
        """
        train_on = record_of(self.weights, sample)["identity"]["settings"].get("train_on")
        if train_on != "real":
            raise ValueError(
                f"{self.weights} was trained with train_on {train_on!r}; a classifier of real_20.json was expected."
            )
        network = load_classifier(self.network, self.weights, self.plan.device)
        loaded = load_images(cases, self.transform)
        drawn = np.array([int(case["class_index"]) for case in loaded])
        found = predict(network, loaded, self.plan).argmax(1)
        for index, name in enumerate(self.classes):
            taken = np.bincount(found[drawn == index], minlength=len(self.classes))
            shares = ", ".join(f"{other} {n}" for other, n in zip(self.classes, taken))
            logger.info("%d images drawn as %s are taken for: %s", taken.sum(), name, shares)
        logger.info("%d of %d synthetic images are recognised", (found == drawn).sum(), len(drawn))
        return [case for case, same in zip(cases, found == drawn) if same]
