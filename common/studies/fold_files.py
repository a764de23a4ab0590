"""Trained folds as files: record, probabilities and weights that belong together; images that a fold recognises."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..data.lists import Case
from ..networks.classifiers import load_classifier
from ..networks.weights import save_weights
from ..utils.files import sha256_of, write_json, written_whole
from .fold_training import TrainingPlan, predict
from .study_sets import load_images, lost_classes
from .synthetic import image_id, names_digest

RECORD, FOUND, WEIGHTS = ".json", ".npz", ".pt"
logger = logging.getLogger(__name__)


def images_digest(cases: Sequence[Mapping[str, Any]]) -> str:
    """A short hash of loaded images and their classes, in their order."""
    parts = ((str(case["class"]), torch.as_tensor(case["image"])) for case in cases)
    return _digest(part for name, image in parts for part in (name.encode(), _bytes(image)))


def weights_digest(network: nn.Module) -> str:
    """A short hash of a network's weights and buffers."""
    return _digest(part for name, value in network.state_dict().items() for part in (name.encode(), _bytes(value)))


def described(value: Any) -> Any:
    """Class and parameters of an object, JSON-ready, with those of what it holds; random states are left out."""
    if value is None or isinstance(value, (str, int, float)):
        return str(value) if isinstance(value, Enum) else value
    if isinstance(value, (torch.dtype, torch.device)):
        return str(value)
    if isinstance(value, (torch.Tensor, np.ndarray)):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(key): described(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, set, range)):
        return [described(entry) for entry in value]
    if isinstance(value, functools.partial):
        return [described(value.func), described(value.args), described(value.keywords)]
    if isinstance(value, type) or hasattr(value, "__code__"):
        return getattr(value, "__qualname__", type(value).__name__)
    if isinstance(value, np.random.RandomState) or not hasattr(value, "__dict__"):
        return type(value).__name__
    return [type(value).__name__, {key: described(entry) for key, entry in sorted(vars(value).items())}]


def remove_fold(stem: Path) -> None:
    """Take away what an earlier run left, the record first: without it nothing is taken for complete."""
    for suffix in (RECORD, FOUND, WEIGHTS):
        stem.with_suffix(suffix).unlink(missing_ok=True)


def write_fold(stem: Path, record: Mapping[str, Any], found: np.ndarray, network: nn.Module | None) -> dict[str, Any]:
    """
    Write one fold; its record comes last, so that where it stands the fold is complete.

    Args:
        stem: the files' common name, ``<architecture>/fold_<k>``.
        record: JSON-ready.
        found: (n, classes) probabilities of the test images.
        network: whose weights are kept; None for no weights.

    Returns:
        The record with the SHA-256 of the other files at "files".
    """
    if network is not None:
        save_weights(network, stem.with_suffix(WEIGHTS), half=True)
    with written_whole(stem.with_suffix(FOUND)) as path:
        np.savez_compressed(path, probabilities=found)
    kept = [FOUND] if network is None else [FOUND, WEIGHTS]
    record = {**record, "files": {suffix: sha256_of(stem.with_suffix(suffix)) for suffix in kept}}
    write_json(stem.with_suffix(RECORD), record, 2, default=str)
    return record


def read_fold(stem: Path, identity: Mapping[str, Any], weights: bool) -> dict[str, Any] | None:
    """
    The record of a complete fold with its "probabilities", or None where it has to be trained.

    Args:
        stem: see ``write_fold``.
        identity: what its result depends on, JSON-ready.
        weights: whether its weights must be there.

    Raises:
        FileExistsError: when what is there depends on something else; names it.
    """
    path = stem.with_suffix(RECORD)
    if not path.is_file():
        return None
    check_fold(stem, identity)
    record = json.loads(path.read_text())
    needed = [FOUND, WEIGHTS] if weights else [FOUND]
    if not all(is_whole(stem, suffix, record) for suffix in needed):
        return None
    with np.load(stem.with_suffix(FOUND), allow_pickle=False) as arrays:
        return {**record, "probabilities": arrays["probabilities"]}


def check_fold(stem: Path, identity: Mapping[str, Any]) -> None:
    """
    Refuse to write over a fold whose result depends on something else.

    Args:
        stem: see ``write_fold``.
        identity: all or some of what the result depends on, JSON-ready.

    Raises:
        FileExistsError: names what differs.
    """
    path = stem.with_suffix(RECORD)
    if not path.is_file():
        return
    # Through JSON, as the stored one went: tuples become lists.
    wanted = json.loads(json.dumps(identity, default=str))
    found = json.loads(path.read_text()).get("identity", {})
    other = _difference({key: found.get(key) for key in wanted}, wanted)
    if other:
        raise FileExistsError(
            f"{path} is of an earlier run with other {other}: choose another output_dir, or --overwrite True."
        )


def is_whole(stem: Path, suffix: str, record: Mapping[str, Any]) -> bool:
    """Whether the file of this ending is the one that the record was written with."""
    path = stem.with_suffix(suffix)
    return path.is_file() and record.get("files", {}).get(suffix) == sha256_of(path)


def _difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Names of what differs, of a mapping within them the name there; empty where nothing does."""
    names: list[str] = []
    for key in sorted(key for key in {*found, *wanted} if found.get(key) != wanted.get(key)):
        one, other = found.get(key), wanted.get(key)
        names.append(_difference(one, other) if isinstance(one, dict) and isinstance(other, dict) else key)
    return ", ".join(dict.fromkeys(names))


def _digest(parts: Iterable[bytes]) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.hexdigest()[:16]


def _bytes(values: torch.Tensor) -> bytes:
    return values.detach().cpu().contiguous().numpy().tobytes()


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
        identity = _record_of(self.weights, sample)["identity"]
        train_on = identity["settings"].get("train_on")
        if train_on != "real":
            raise ValueError(
                f"{self.weights} was trained with train_on {train_on!r}; a classifier of real_20.json was expected."
            )
        if "validation" in identity:
            raise ValueError(
                f"{self.weights} was stopped on real images outside the sample: give a classifier of real_20.json that "
                "was trained without validation_fraction."
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


def _record_of(weights: str | Path, sample: Sequence[Case]) -> dict[str, Any]:
    """What is known of a classifier (``<study>/<architecture>/fold_<k>.pt``) that has seen this sample alone."""
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


def unseen(
    cases: Sequence[Case], weights: str | Path, sample: Sequence[Case], validation: Sequence[Case] = ()
) -> list[Case]:
    """
    Of synthetic images those that a classifier was not trained on: all, or those that its fold held out.

    Args:
        cases: synthetic images.
        weights: file of the classifier, ``<study>/<architecture>/fold_<k>.pt``; its record lies beside it.
        sample: the real images that are not explained.
        validation: those of the validation share, which are not explained either.

    Raises:
        ValueError: also when ``cases`` are not those of its study, or it was stopped on another validation share.
    """
    record = _record_of(weights, sample)
    stopped_on = record["identity"].get("validation")
    if stopped_on and stopped_on[1] != names_digest(validation):
        raise ValueError(
            f"{weights} was stopped on another validation share of the real images, which may be among those that are "
            "explained: give the validation_fraction of its study."
        )
    if record["identity"]["settings"].get("train_on") == "real":
        return list(cases)
    held_out = set(record["held_out"])
    kept = [case for case in cases if image_id(case) in held_out]
    if lost := lost_classes(cases, kept):
        raise ValueError(f"{weights} held out none of these images of {lost}: give the synthetic set of its study.")
    return kept
