"""The table of a classifier study: a row a network, as Table 2 of Nafi et al. 2024, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..evaluation.results import finite, versions, write_report
from ..networks.classifiers import TITLES

_COLUMNS = (
    "network",
    "train loss",
    "val. loss",
    "test loss",
    "train acc.",
    "val. acc.",
    "test accuracy",
    "precision",
    "recall",
    "F1",
)
_COPIES = ("accuracy, near copy in the sample", "accuracy, no near copy")


def write_table(content: Mapping[str, Any], output_dir: str | Path) -> None:
    """
    Write ``metrics.json`` and ``metrics.md``.

    Args:
        content: "networks" (name -> train and validation loss and accuracy, "test" scores, see
            ``classification_scores``), "classes", counts of images, "folds", "settings", "label" or None.
        output_dir: folder of the files.
    """
    whole = finite({**content, "best": best_network(content["networks"]), "versions": versions()})
    write_report(whole, table(whole), output_dir)


def best_network(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Name of the network with the highest test accuracy, as the paper picks it: a choice made on the test images."""
    return max(rows, key=lambda name: float(rows[name]["test"]["accuracy"]["value"]))


def table(content: Mapping[str, Any]) -> str:
    """What it is, the scores of each network, and the best one's confusion matrix, in Markdown."""
    rows, settings = content["networks"], content["settings"]
    copies = any("test_copied" in row for row in rows.values())
    columns = [*_COLUMNS, *(_COPIES if copies else ())]
    lines = [_headline(content), ""]
    lines += [f"{name}: {value}  " for name, value in settings.items() if value is not None]
    lines += ["", f"| {' | '.join(columns)} |", f"| --- |{' --- |' * (len(columns) - 1)}"]
    lines += [f"| {' | '.join(_cells(name, row, copies))} |" for name, row in rows.items()]
    best = content["best"]
    lines += ["", f"Confusion matrix of {TITLES.get(best, best)} (rows: true class), summed over its networks:", ""]
    lines += _confusion(rows[best]["test"]["confusion"], content["classes"])
    return "\n".join(lines) + "\n"


def _headline(content: Mapping[str, Any]) -> str:
    counts = {name: sum(content[f"{name}_images"].values()) for name in ("train", "test", "sample")}
    folds = content["folds"]
    first = f"**{content['label']}.** " if content["label"] else ""
    kind = content["settings"].get("train_on", "")
    return (
        f"{first}Trained and validated on {counts['train']} images ({kind}), tested on "
        f"{counts['test']} real images, none of them among the {counts['sample']} of the sample. Mean of "
        f"{folds['trained']} of {folds['number']} folds; intervals of 95 % over groups of test images."
    )


def _cells(name: str, row: Mapping[str, Any], copies: bool) -> list[str]:
    test = row["test"]
    cells = [
        TITLES.get(name, name),
        f"{row['train_loss']:.4f}",
        f"{row['val_loss']:.4f}",
        f"{test['loss']['value']:.4f}",
    ]
    cells += [f"{100 * row['train_accuracy']:.2f}", f"{100 * row['val_accuracy']:.2f}", _percent(test["accuracy"])]
    cells += [f"{test[score]['value']:.3f}" for score in ("precision", "recall", "f1")]
    return cells + ([_percent(row.get(part)) for part in ("test_copied", "test_new")] if copies else [])


def _percent(entry: Mapping[str, Any] | None) -> str:
    if entry is None or entry["value"] is None:
        return "–"
    interval = entry.get("interval95")
    return f"{100 * entry['value']:.2f}" + (
        f" ({100 * interval[0]:.2f} to {100 * interval[1]:.2f})" if interval else ""
    )


def _confusion(counts: Sequence[Sequence[int]], classes: Sequence[str]) -> list[str]:
    lines = [f"| | {' | '.join(classes)} |", f"| --- |{' --- |' * len(classes)}"]
    return lines + [f"| {name} | {' | '.join(map(str, row))} |" for name, row in zip(classes, counts)]
