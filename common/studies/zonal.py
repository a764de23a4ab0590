"""What super-resolution does to a zonal segmentation: Dice over factors, by patient, as table, file and curve."""

from __future__ import annotations

import functools
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..bundle.configs import from_config
from ..evaluation.results import cell, document, entry_of, markdown, write_report
from ..features.segmenter import Segmenter
from ..metrics.consistency import MaskDice
from ..utils.files import write_csv
from ..visualize.plots import curve_panels, root_two

ORIGINAL, DEGRADED = "original", "bilinear"
"""Methods of a table: the clean image, and the one that the others are set against."""

logger = logging.getLogger(__name__)


def zone_columns(segmenter: Segmenter, labels: Sequence[str]) -> dict[str, Callable[[], MaskDice]]:
    """Columns for ``method_metrics``: the Dice of each label between a segmenter's reading and the mask."""
    return {name: functools.partial(MaskDice, segmenter, list(labels), only=name) for name in labels}


def zonal_study(
    configs: str, factors: Sequence[float], labels: Sequence[str], output_dir: str | Path, given: Mapping[str, Any]
) -> Path:
    """
    Evaluate at each factor, into a folder each, and put the results together by ``write_zonal``.

    Args:
        configs: of one evaluation, see ``from_config``, such as "inference.json,evaluate.json,zones.json".
        factors: of the super-resolution.
        labels: of the zones, columns of each table.
        output_dir: of the study.
        given: values of these configs.

    Returns:
        The table, ``zonal.md``.
    """
    started, folders = time.monotonic(), {}
    for factor in factors:
        folders[factor] = Path(output_dir) / f"factor_{factor:.2f}"
        logger.info(f"Factor {root_two(factor)}, {len(folders)} of {len(factors)}:")
        own = {**given, "factor": float(factor), "output_dir": str(folders[factor])}
        from_config(f"{configs}::run", own)
    return write_zonal(folders, labels, output_dir, started)


def write_zonal(
    folders: Mapping[float, str | Path], labels: Sequence[str], output_dir: str | Path, started: float
) -> Path:
    """
    One study of the tables of its factors: ``zonal.md``, ``zonal.json``, ``zonal.csv`` (by patient), ``zonal.png``.

    Means are over patients, with bootstrap intervals of 95 % over patients; beside them the paired difference to
    bilinear interpolation.

    Args:
        folders: factor -> folder with the ``metrics.json`` of a table of methods, of the same patients.
        labels: columns of the tables, the zones.
        output_dir: of the study.
        started: ``time.monotonic()`` at its beginning.

    Returns:
        The table.

    Source: Med-cDiff, Table 1 and Figure 3.
    """
    tables = {
        factor: json.loads((Path(folder) / "metrics.json").read_text("utf-8")) for factor, folder in folders.items()
    }
    first = next(iter(tables.values()))
    rows = {
        f"{row['title']}, {zone}": {
            factor: table["methods"][method]["metrics"][f"dice[{zone}]"] for factor, table in tables.items()
        }
        for zone in labels
        for method, row in first["methods"].items()
    }
    against = {
        f"{row['title']} less {DEGRADED}, {zone}": {
            factor: _difference(table, method, zone) for factor, table in tables.items()
        }
        for zone in labels
        for method, row in first["methods"].items()
        if method not in (ORIGINAL, DEGRADED)
    }
    every = {**rows, **against}
    head = ["Dice", *(f"factor {root_two(factor)}" for factor in tables)]
    lines = markdown(head, [[name, *map(cell, entries.values())] for name, entries in every.items()])
    text = "\n".join(lines) + "\n"
    found = {"rows": {name: {f"{f:.4f}": entry for f, entry in entries.items()} for name, entries in every.items()}}
    content = document(found, first["context"], first["bootstrap"]["seed"], started, "patients")
    content["context"].pop("degradation", None)  # of the first factor alone
    write_report(content, text, output_dir, "zonal")
    _write_patients(tables, labels, Path(output_dir) / "zonal.csv")
    _draw(tables, labels, Path(output_dir) / "zonal.png")
    return Path(output_dir) / "zonal.md"


def _values(table: Mapping[str, Any], method: str, zone: str) -> np.ndarray:
    """Dice of each patient, NaN for one without this zone."""
    return np.array(table["methods"][method]["metrics"][f"dice[{zone}]"]["per_case"], dtype=np.float64)


def _difference(table: Mapping[str, Any], method: str, zone: str) -> dict[str, Any]:
    apart = _values(table, method, zone) - _values(table, DEGRADED, zone)
    return entry_of(apart[~np.isnan(apart)], seed=table["bootstrap"]["seed"])


def _write_patients(tables: Mapping[float, Mapping[str, Any]], labels: Sequence[str], path: Path) -> None:
    rows = []
    for factor, table in tables.items():
        for method in table["methods"]:
            columns = [_values(table, method, zone) for zone in labels]
            for name, values in zip(table["context"]["cases"], zip(*columns)):
                rows.append([name, f"{factor:.4f}", method, *(f"{value:.6f}" for value in values)])
    write_csv(path, ["patient", "factor", "method", *labels], rows, "\n")


def _draw(tables: Mapping[float, Mapping[str, Any]], labels: Sequence[str], path: Path) -> None:
    methods = next(iter(tables.values()))["methods"]

    def entries(method: str, zone: str) -> list[tuple[float, Any]]:
        return [(factor, table["methods"][method]["metrics"][f"dice[{zone}]"]) for factor, table in tables.items()]

    panels = {
        zone: {
            row["title"]: [(factor, entry["value"], entry["interval95"]) for factor, entry in entries(method, zone)]
            for method, row in methods.items()
            if method != ORIGINAL
        }
        for zone in labels
    }
    clean = {
        zone: {methods[ORIGINAL]["title"]: value}
        for zone in labels
        if (value := entries(ORIGINAL, zone)[0][1]["value"]) is not None
    }
    n = entries(ORIGINAL, labels[0])[0][1]["n"]
    curve_panels(
        panels, path, "down-sampling factor", clean, f"Dice of the zones, mean of {n} patients, intervals of 95 %"
    )
