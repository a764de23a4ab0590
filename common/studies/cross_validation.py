"""Classifiers trained in folds and tested on real images: every architecture, one table, as Table 2 of Nafi et al."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..data.checks import check_folder
from ..data.folds import stratified_folds
from ..evaluation.results import finite, markdown, versions, write_report
from ..handlers.guards import epoch_seed
from ..metrics.consistency import classification_scores
from ..metrics.intervals import fold_interval
from ..networks.classifiers import TITLES, chosen_architectures
from .fold_files import check_fold, described, images_digest, read_fold, remove_fold, weights_digest, write_fold
from .fold_training import TrainingPlan, predict, train_fold
from .study_sets import class_counts, copies_of_sample, load_sets
from .synthetic import image_id, names_digest

logger = logging.getLogger(__name__)
_ANYWHERE = ("device", "num_workers")  # of a plan: where a fold is trained is no reason to train it again
_MEANS = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "best_epoch", "epochs", "seconds")


@dataclass(eq=False, repr=False)
class CrossValidation:
    """
    Train each architecture once a fold, test each network on the real images, and write one table.

    What is complete in ``output_dir`` is not trained again; what depends on other images, classes, folds, initial
    weights, ``plan`` or ``settings`` is not written over.

    Args:
        architectures: "all", one name, several with commas between, or a list.
        network: architecture's name -> a new network.
        plan: how each is trained.
        sets: "train", "test" and "sample", see ``study_sets``. Where there is a "validation" set with images, training
            stops and the best network is chosen on it, not on the images that a fold holds out.
        transform: loads, checks and resizes a case, and adds "class_index".
        classes: names in the order of the networks' outputs.
        output_dir: folder of ``metrics.json``, ``metrics.md`` and ``<architecture>/fold_<k>.{json,npz,pt}``.
        folds: number of folds that the training images are split into.
        max_folds: so many of them are trained; None for all.
        settings: what else a result depends on, JSON-ready; recorded and compared.
        label: what the table is called; it changes no result.
        skip_unreadable: leave out images that cannot be read.
        keep_weights: weights are written for the first so many folds.
        overwrite: train again what is there.

    Raises:
        ValueError: for an unknown architecture, or folds and images that do not fit together.
        OSError: when ``output_dir`` cannot be written.

    >>> import tempfile
    >>> cases = [{"image": f"{i}.png", "class": "ab"[i % 2], "group": str(i)} for i in range(8)]
    >>> load = lambda case: {**case, "image": torch.ones(1, 2, 2), "class_index": "ab".index(case["class"])}
    >>> network = lambda architecture: nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> plan, sets = TrainingPlan(torch.optim.SGD, max_epochs=1), dict.fromkeys(("train", "test", "sample"), cases)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     study = CrossValidation("resnet18", network, plan, sets, load, "ab", folder, folds=2)
    ...     study.run()["networks"]["resnet18"]["test"]["accuracy"]["value"]
    0.5
    """

    architectures: str | list[str]
    network: Callable[[str], nn.Module]
    plan: TrainingPlan
    sets: Mapping[str, Sequence[dict[str, Any]]]
    transform: Callable[[Any], Any]
    classes: Sequence[str]
    output_dir: str | Path
    folds: int = 5
    max_folds: int | None = None
    settings: Mapping[str, Any] | None = None
    label: str | None = None
    skip_unreadable: bool = False
    keep_weights: int = 1
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.max_folds is not None and self.max_folds < 1:
            raise ValueError(f"max_folds must be at least 1, or None for all folds; got {self.max_folds}.")
        self.architectures = chosen_architectures(self.architectures)
        self.classes, self.settings = list(self.classes), dict(self.settings or {})
        self.parts = stratified_folds(self.sets["train"], self.folds, self.plan.seed)[: self.max_folds]
        check_folder(self.output_dir)

    def run(self) -> dict[str, Any]:
        """
        Train what is missing, test, and write the table.

        Returns:
            What ``metrics.json`` holds.

        Raises:
            FileExistsError: when ``output_dir`` holds folds of another study.
            ValueError: when images cannot be used.
        """
        for architecture in self.architectures:
            self.network(architecture)  # weights that are missing or do not fit are named before the first is trained
        names = ("train", "test", "validation")
        asked = [self.sets.get(name, []) for name in names]
        train, test, validation = load_sets(asked, self.transform, self.skip_unreadable)
        by_path = {case["path"]: case for case in train}
        # Images that cannot be read were left out above.
        loaded = [
            [*([by_path[c["image"]] for c in part if c["image"] in by_path] for part in fold), validation]
            for fold in self.parts
        ]
        identity = {
            "settings": self.settings,
            "classes": self.classes,
            "images": [images_digest(train), images_digest(test)],
            "sample": names_digest(self.sets["sample"]),
            "plan": {name: described(value) for name, value in vars(self.plan).items() if name not in _ANYWHERE},
            "folds": self.folds,
        }
        if validation:
            identity["validation"] = [images_digest(validation), names_digest(validation)]
        if not self.overwrite:  # before the first is trained
            for architecture in self.architectures:
                for number in range(len(loaded)):
                    check_fold(self._stem(architecture, number), identity)
        rows, content = {}, {}
        for architecture in self.architectures:
            records = [self._fold(architecture, k, fold, test, identity) for k, fold in enumerate(loaded)]
            rows[architecture] = self._row(records, test)
            content = self._content(rows, train, test)
            if validation:
                content["validation_images"] = class_counts(validation)
            report = finite({**content, "best": best_network(rows, bool(validation)), "versions": versions()})
            write_report(report, table(report), self.output_dir)
        return content

    def _fold(
        self, architecture: str, number: int, parts: Sequence[Any], test: Sequence[Any], identity: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The record of one network with the "probabilities" of the test images; read where it is complete."""
        stem = self._stem(architecture, number)
        torch.manual_seed(epoch_seed(self.plan.seed, number, 1))
        network = self.network(architecture)
        identity = {
            **identity,
            "parts": [names_digest(part) for part in parts[:2]],
            "initial_weights": weights_digest(network),
        }
        keep = number < self.keep_weights
        done = None if self.overwrite else read_fold(stem, identity, weights=keep)
        if done is not None:
            logger.info("%s, fold %d: complete already", architecture, number + 1)
            return done
        remove_fold(stem)
        train, held_out, validation = parts
        record = train_fold(network, train, validation or held_out, self.plan, number)
        found = predict(network, test, self.plan)
        record = {**record, "held_out": sorted(map(image_id, held_out)), "identity": identity}
        record = write_fold(stem, record, found, network if keep else None)
        logger.info(
            "%s, fold %d of %d: epoch %d of %d is best, validation loss %.4f, accuracy %.4f, %.0f s",
            architecture,
            number + 1,
            self.folds,
            *(record[key] for key in ("best_epoch", "epochs", "val_loss", "val_accuracy", "seconds")),
        )
        return {**record, "probabilities": found}

    def _stem(self, architecture: str, number: int) -> Path:
        return Path(self.output_dir) / architecture / f"fold_{number}"

    def _row(self, records: Sequence[Mapping[str, Any]], test: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        found = [record["probabilities"] for record in records]
        labels = np.array([int(case["class_index"]) for case in test])
        groups = np.array([case["group"] for case in test])
        row: dict[str, Any] = {name: float(np.mean([record[name] for record in records])) for name in _MEANS}
        row |= {"test": classification_scores(found, labels, groups, self.plan.seed), "folds": len(records)}
        if len(found) > 1:
            together = classification_scores([np.mean(found, 0)], labels, groups, self.plan.seed)
            row["test_mean_of_probabilities"] = together["accuracy"]
            row["accuracy_interval95_over_folds"] = fold_interval(row["test"]["accuracy"]["each"])
        copied = np.array(copies_of_sample(test, self.sets["sample"]))
        for name, chosen in (("test_copied", copied), ("test_new", ~copied)):
            # Both parts or neither: with a split by group there are no near copies.
            if copied.any() and chosen.any():
                parts = [probabilities[chosen] for probabilities in found]
                row[name] = classification_scores(parts, labels[chosen], groups[chosen], self.plan.seed)["accuracy"]
        return row

    def _content(self, rows: Mapping[str, Any], train: Sequence[Any], test: Sequence[Any]) -> dict[str, Any]:
        return {
            "networks": dict(rows),
            "classes": self.classes,
            "train_images": class_counts(train),
            "test_images": class_counts(test),
            "sample_images": class_counts(self.sets["sample"]),
            "test_images_with_a_near_copy_in_the_sample": sum(copies_of_sample(test, self.sets["sample"])),
            "folds": {"number": self.folds, "trained": len(self.parts)},
            "settings": self.settings,
            "label": self.label,
            "device": str(self.plan.device),
            "bootstrap": {"seed": self.plan.seed, "resamples": 1000, "over": "groups of images", "kind": "percentile"},
        }


def best_network(rows: Mapping[str, Mapping[str, Any]], validated: bool = False) -> str:
    """
    Name of the network with the highest accuracy: on the real images of a validation share where the networks were
    ``validated`` on one, else on the test images, as the paper picks it.
    """
    found = {name: row["val_accuracy"] if validated else row["test"]["accuracy"]["value"] for name, row in rows.items()}
    return max(found, key=lambda name: float(found[name]))


def table(content: Mapping[str, Any]) -> str:
    """What it is, the scores of each network, and the best one's confusion matrix, in Markdown."""
    rows, folds, best = content["networks"], content["folds"], content["best"]
    train, test, sample = (sum(content[f"{name}_images"].values()) for name in ("train", "test", "sample"))
    label = f"**{content['label']}.** " if content["label"] else ""
    chosen = sum(content.get("validation_images", {}).values())
    validated = f", stopped and chosen on {chosen} real images of a validation share" if chosen else ""
    lines = [
        f"{label}Trained {'' if chosen else 'and validated '}on {train} images "
        f"({content['settings'].get('train_on', '')}){validated}, tested on {test} "
        f"real images, none of them among the {sample} of the sample. Mean of {folds['trained']} of "
        f"{folds['number']} folds; intervals of 95 % over groups of test images.",
        "",
        *(f"{name}: {value}  " for name, value in content["settings"].items() if value is not None),
        "",
    ]
    cells = {name: _cells(row) for name, row in rows.items()}
    if any("test_copied" in row for row in rows.values()):
        for name, row in rows.items():
            cells[name]["accuracy, near copy in the sample"] = _percent(row.get("test_copied"))
            cells[name]["accuracy, no near copy"] = _percent(row.get("test_new"))
    columns = ["network", *cells[best]]
    lines += markdown(columns, [[TITLES.get(name, name), *row.values()] for name, row in cells.items()])
    lines += ["", f"Confusion matrix of {TITLES.get(best, best)} (rows: true class), summed over its networks:", ""]
    counts = zip(content["classes"], rows[best]["test"]["confusion"])
    lines += markdown(["", *content["classes"]], [[name, *map(str, row)] for name, row in counts])
    return "\n".join(lines) + "\n"


def _cells(row: Mapping[str, Any]) -> dict[str, str]:
    test = row["test"]
    return {
        "train loss": f"{row['train_loss']:.4f}",
        "val. loss": f"{row['val_loss']:.4f}",
        "test loss": f"{test['loss']['value']:.4f}",
        "train acc.": f"{100 * row['train_accuracy']:.2f}",
        "val. acc.": f"{100 * row['val_accuracy']:.2f}",
        "test accuracy": _percent(test["accuracy"]),
        **{title: f"{test[title.lower()]['value']:.3f}" for title in ("precision", "recall", "F1")},
    }


def _percent(entry: Mapping[str, Any] | None) -> str:
    if entry is None or entry["value"] is None:
        return "–"
    interval = [f"{100 * end:.2f}" for end in entry.get("interval95") or ()]
    return f"{100 * entry['value']:.2f}" + (f" ({' to '.join(interval)})" if interval else "")
