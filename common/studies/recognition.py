"""Synthetic images chosen by a trained classifier: those that it recognises, or has not seen."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from ..data.lists import Case
from ..networks.classifiers import load_classifier
from .fold_files import RECORD, WEIGHTS, is_whole
from .fold_training import TrainingPlan, predict
from .study_sets import load_images, lost_classes
from .synthetic import image_id, names_digest

logger = logging.getLogger(__name__)


@dataclass(eq=False, repr=False)
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

    >>> import torch
    >>> KeepRecognised(nn.Identity(), "fold_0.pt", dict, ["a", "b"], TrainingPlan(torch.optim.SGD))([], [])
    Traceback (most recent call last):
    FileNotFoundError: fold_0.pt was expected: classify.json writes a classifier and its record together.
    """

    network: nn.Module
    weights: str | Path
    transform: Callable[[Any], Any]
    classes: Sequence[str]
    plan: TrainingPlan

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


def record_of(weights: str | Path, sample: Sequence[Case]) -> dict[str, Any]:
    """
    What is known of a classifier of ``classify.json`` that has seen no real image but those of the sample.

    Args:
        weights: its file, ``<study>/<architecture>/fold_<k>.pt``, with the record beside it.
        sample: the real images that are not tested on.

    Raises:
        FileNotFoundError: when either file is missing.
        ValueError: when the record is of other weights, or another sample.
    """
    stem = Path(weights).with_suffix("")
    for path in (Path(weights), stem.with_suffix(RECORD)):
        if not path.is_file():
            raise FileNotFoundError(f"{path} was expected: classify.json writes a classifier and its record together.")
    record = json.loads(stem.with_suffix(RECORD).read_text())
    if not is_whole(stem, WEIGHTS, record):
        raise ValueError(f"{stem.with_suffix(RECORD)} is not the record of {weights}: train the classifier again.")
    if record["identity"]["sample"] != names_digest(sample):
        raise ValueError(
            f"{weights} belongs to another sample of the real images and may have seen those that are tested on: give "
            "one of the same split, fraction and split_seed."
        )
    return record


def unseen(cases: Sequence[Case], weights: str | Path, sample: Sequence[Case]) -> list[Case]:
    """
    Of synthetic images those that a classifier was not trained on: all, or those that its fold held out.

    Args:
        cases: synthetic images.
        weights: file of the classifier, see ``record_of``, as ``sample`` and the errors.
        sample: the real images that are not explained.

    Raises:
        ValueError: also when ``cases`` are not those of its study.
    """
    record = record_of(weights, sample)
    if record["identity"]["settings"].get("train_on") == "real":
        return list(cases)
    held_out = set(record["held_out"])
    kept = [case for case in cases if image_id(case) in held_out]
    if lost := lost_classes(cases, kept):
        raise ValueError(f"{weights} held out none of these images of {lost}: give the synthetic set of its study.")
    return kept
