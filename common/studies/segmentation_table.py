"""Segmenters trained on real and generated volumes, tested on real ones: Table II of Med-DDPM, row by row."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.metrics.confusion_matrix import compute_confusion_matrix_metric, get_confusion_matrix
from monai.networks.utils import one_hot
from monai.utils import set_determinism

from ..bundle.configs import from_config
from ..data.checks import check_folder
from ..data.lists import Case
from ..evaluation.results import cell, document, markdown, write_report
from ..features.segmenter import WholeVolumeInferer, build_segmenter
from ..metrics.intervals import bootstrap_interval_of_sets
from ..networks.weights import load_weights
from ..utils.files import write_json
from ..visualize.plots import interval_chart
from .segmentation_rows import Row, files_digest, row_cases, study_rows

SCORES = {
    "dice": "f1 score",
    "iou": "threat score",
    "accuracy": "accuracy",
    "recall": "recall",
    "precision": "precision",
}
"""Columns of the table -> the names by which MONAI computes them from voxel counts."""

logger = logging.getLogger(__name__)


@dataclass(eq=False, repr=False)
class SegmentationStudy:
    """
    Train a segmenter for each row and seed, test each on the same real volumes, and write one table.

    Every segmenter sees the same number of batches, whatever its number of volumes. Rows and seeds that are complete
    in ``output_dir`` are not trained again.

    Args:
        configs: of one training, see ``from_config``.
        given: values of these configs.
        split: real cases: "training", validation and "test", or training and test.
        sets: name -> folder of ``generate.json``.
        labels: of the structures, in the order of the segmenter's channels after the background.
        output_dir: of ``segmentation.md``, ``.json``, ``.png`` and ``<row>/seed_<k>``.
        seeds: of initial weights, order and random changes.
        iterations: batches of each training.
        batch_size: volumes of a batch.
        multiples: see ``study_rows``.
        rows: titles of the rows that are wanted; None for all.
        overwrite: train again what is there.

    Raises:
        OSError: when ``output_dir`` cannot be written.

    Source: Dorjsembe et al. 2024, Table II. Theirs train for 100 epochs, so that more volumes mean longer training.
    """

    configs: str
    given: Mapping[str, Any]
    split: Sequence[Sequence[Case]]
    sets: Mapping[str, str]
    labels: Sequence[str]
    output_dir: str | Path
    seeds: Sequence[int] = (0, 1, 2, 3, 4)
    iterations: int = 600
    batch_size: int = 4
    multiples: Sequence[int] = (1, 2, 5)
    rows: Sequence[str] | None = None
    overwrite: bool = False
    started: float = field(default_factory=time.monotonic)

    def run(self) -> Path:
        """
        Train what is missing, test, and write the table.

        Returns:
            The table, ``segmentation.md``.

        Raises:
            FileExistsError: when ``output_dir`` holds rows of other volumes or settings.
            FileNotFoundError, ValueError: when a set is not complete or too small.
        """
        check_folder(self.output_dir)
        rows = study_rows(self.sets, self.multiples, self.rows)
        cases = {row: row_cases(row, self.split[0], self.sets) for row in rows}
        tests = from_config(
            f"{self.configs}::validate#dataset", {**self.given, "validate#dataset#data": self.split[-1]}
        )
        tested_on = files_digest(self.split[-1])
        identities = {row: self._identity(row, cases[row], tested_on) for row in rows}
        tasks = [(row, seed) for seed in self.seeds for row in rows]
        found = {task: self._done(*task, identities[task[0]]) for task in tasks}  # before the first is trained
        missing, began = [task for task in tasks if found[task] is None], time.monotonic()
        for number, (row, seed) in enumerate(missing, 1):
            scores = self._cell(row, seed, cases[row], tests, identities[row])
            found[row, seed] = scores
            left = (time.monotonic() - began) / number * (len(missing) - number) / 60
            mean = float(np.nanmean(_values([scores], "dice", list(scores))))
            logger.info(f"{row.title}, seed {seed}: Dice {mean:.3f} ({number} of {len(missing)}, {left:.0f} min left)")
        return write_table(
            {row: [found[row, seed] or {} for seed in self.seeds] for row in rows},
            {row: len(cases[row]) for row in rows},
            [str(case["group"]) for case in self.split[-1]],
            self.output_dir,
            {"iterations": self.iterations, "batch_size": self.batch_size, "seeds": list(self.seeds)},
            self.started,
        )

    def _identity(self, row: Row, cases: Sequence[Case], tested_on: str) -> dict[str, Any]:
        return {
            "trained_on": files_digest(cases),
            "tested_on": tested_on,
            "augmented": row.augmented,
            "iterations": self.iterations,
            "batch_size": self.batch_size,
            "labels": list(self.labels),
            "spacing": self.given.get("spacing"),
            "precision": self.given.get("precision"),
        }

    def _folder(self, row: Row, seed: int) -> Path:
        return Path(self.output_dir, row.title.replace(" ", "_").replace(",", "").replace("×", "x"), f"seed_{seed}")

    def _done(self, row: Row, seed: int, identity: Mapping[str, Any]) -> dict[str, Any] | None:
        path = self._folder(row, seed) / "scores.json"
        if self.overwrite or not path.is_file():
            return None
        record = json.loads(path.read_text("utf-8"))
        differs = [key for key, value in identity.items() if record["identity"].get(key) != value]
        if differs:
            raise FileExistsError(f"{path} was made with other {', '.join(differs)}: --overwrite True trains again.")
        return dict(record["scores"])

    def _cell(
        self, row: Row, seed: int, cases: Sequence[Case], tests: Sequence[Any], identity: Mapping[str, Any]
    ) -> dict[str, Any]:
        folder = self._folder(row, seed)
        epochs = math.ceil(self.iterations / max(1, len(cases) // self.batch_size))
        own: dict[str, Any] = {
            **self.given,
            "split": [list(part) for part in self.split],
            "training_cases": list(cases),
            "output_dir": str(folder),
            "batch_size": min(self.batch_size, len(cases)),
            "max_epochs": epochs,
            "seed": seed,
            "checkpoint_interval": None,
            "train#handlers#0#validators": [],
            "train#handlers#0#report": None,
        }
        if not row.augmented:
            own["train#random_transforms"] = []
        began = time.monotonic()
        set_determinism(seed=seed)
        with _quiet():
            from_config(f"{self.configs}::run", own)
        scores = scores_on_cases(folder / "segmenter.pt", tests, self.labels, self.given.get("device", "cpu"))
        record = {"identity": identity, "scores": scores, "seconds": round(time.monotonic() - began, 1)}
        write_json(folder / "scores.json", record, 1)
        return scores


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the notices of each single training."""
    before = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(before)


def scores_on_cases(
    weights: str | Path,
    cases: Sequence[Mapping[str, Any]],
    labels: Sequence[str],
    device: torch.device | str = "cpu",
) -> dict[str, dict[str, list[float | None]]]:
    """
    Scores of a segmenter on each case: label -> "dice", "iou", "accuracy", "recall", "precision" -> value a case, None
    where a case neither has a label nor is said to have it.

    Args:
        weights: of ``build_segmenter``.
        cases: "image", (C, X, Y, Z), and one-hot "label" with the background first.
        labels: in the order of the channels after the background.
        device: to compute on.
    """
    segmenter = build_segmenter(len(labels), in_channels=len(cases[0]["image"]))
    network, inferer = load_weights(segmenter, weights).to(device).eval(), WholeVolumeInferer(divisor=8)
    counts = []
    for case in cases:
        with torch.no_grad():
            found = inferer(case["image"][None].to(device), network).argmax(1, keepdim=True).cpu()
        read = one_hot(found, 1 + len(labels))
        counts.append(get_confusion_matrix(read, torch.as_tensor(case["label"])[None], False)[0])
    stacked = torch.stack(counts).double()  # (cases, labels, 4)
    scores = {name: compute_confusion_matrix_metric(theirs, stacked) for name, theirs in SCORES.items()}
    # what is there and never found has a precision of 0; MONAI's is not a number
    scores["precision"] = torch.where(scores["recall"] == 0, 0.0, scores["precision"])
    return {
        label: {
            name: [None if v.isnan() else round(float(v), 6) for v in found[:, i]] for name, found in scores.items()
        }
        for i, label in enumerate(labels)
    }


def write_table(
    found: Mapping[Row, Sequence[Mapping[str, Mapping[str, Sequence[float | None]]]]],
    sizes: Mapping[Row, int],
    subjects: Sequence[str],
    output_dir: str | Path,
    context: Mapping[str, Any],
    started: float,
) -> Path:
    """
    ``segmentation.md``, ``.json`` and ``.png``: means over seeds, test volumes and structures, with their intervals.

    Intervals of 95 % draw seeds and subjects anew, both at once; those of differences the same ones for both rows.

    Args:
        found: row -> scores of each seed, as ``scores_on_cases`` gives them.
        sizes: row -> number of training volumes.
        subjects: of each test volume.
        output_dir: where they are written.
        context: recorded.
        started: ``time.monotonic()`` at the beginning.

    Returns:
        The table.
    """
    labels = list(next(iter(found.values()))[0])
    columns = ["dice", *(f"dice[{label}]" for label in labels), *list(SCORES)[1:]]
    values = {row.title: {name: _values(scores, name, labels) for name in columns} for row, scores in found.items()}
    table: dict[str, dict[str, Any]] = {}
    for row in found:
        entries: dict[str, Any] = {name: _entry(values[row.title][name], subjects) for name in columns}
        less = values[row.title]["dice"] - values[row.against]["dice"] if row.against else None
        entries["difference"] = None if less is None else _entry(less, subjects) | {"against": row.against}
        table[row.title] = {"volumes": sizes[row], "metrics": entries}
    head = ["trained on", "volumes", *columns, "Dice less the row without"]
    lines = [
        [title, str(content["volumes"]), *(cell(content["metrics"][name]) for name in [*columns, "difference"])]
        for title, content in table.items()
    ]
    text = "\n".join(markdown(head, lines)) + "\n"
    compared = sum(row.against is not None for row in found)
    about = {**context, "test_volumes": len(subjects), "subjects": len(set(subjects)), "comparisons": compared}
    write_report(document({"rows": table}, about, 0, started, "seeds and subjects"), text, output_dir, "segmentation")
    interval_chart(
        {title: content["metrics"]["dice"] for title, content in table.items()},
        Path(output_dir) / "segmentation.png",
        f"Dice on {len(subjects)} real volumes, mean of {len(next(iter(found.values())))} seeds, intervals of 95 %",
    )
    return Path(output_dir) / "segmentation.md"


def _values(
    scores: Sequence[Mapping[str, Mapping[str, Sequence[float | None]]]], name: str, labels: Sequence[str]
) -> np.ndarray:
    """(seeds, cases) of a column: of one structure, ``dice[NAME]``, or the mean of all."""
    metric, _, label = name.partition("[")
    chosen = [label[:-1]] if label else labels
    each = [[one[structure][metric] for structure in chosen] for one in scores]
    known = np.ma.masked_invalid(np.array(each, dtype=np.float64))
    return np.asarray(known.mean(axis=1).filled(np.nan))


def _entry(values: np.ndarray, subjects: Sequence[str]) -> dict[str, Any]:
    """Value and interval of the mean of (seeds, cases), by seed and by subject; by subject alone for one seed."""
    names, member = np.unique(np.asarray(subjects), return_inverse=True)
    sums = np.stack([np.nansum(values * (member == k), axis=1) for k in range(len(names))], axis=1)
    sizes = np.stack([(~np.isnan(values) * (member == k)).sum(1) for k in range(len(names))], axis=1)

    def of_subjects(drawn: np.ndarray, seeds: np.ndarray | None = None) -> float:
        rows = slice(None) if seeds is None else seeds.astype(int)
        columns = drawn.astype(int)
        return float(sums[rows][:, columns].sum() / sizes[rows][:, columns].sum())

    sets = [np.arange(len(names)), np.arange(len(values))] if len(values) > 1 else [np.arange(len(names))]
    interval = bootstrap_interval_of_sets(sets, of_subjects)
    each = [float(value) for value in np.nanmean(values, axis=1)]
    return {"value": float(np.nanmean(values)), "interval95": interval, "each": each, "n": values.shape[1]}
