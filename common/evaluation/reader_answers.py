"""What readers answered in a study: accuracy and agreement, method by method."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import cohen_kappa_score

from ..utils.files import read_csv
from .observer import accuracy_of, forced_choice_text, results_of
from .reader_study import KEY_COLUMNS
from .results import write_report


def read_key(path: str | Path) -> dict[str, tuple[str, str]]:
    """
    Item -> (method, truth) of a ``key.csv``.

    Raises:
        FileNotFoundError: for no such file.
        ValueError: for a file without its columns.
    """
    rows = read_csv(path, KEY_COLUMNS, "the key of a reader study")
    return {row["item"]: (row["method"], row["truth"]) for row in rows}


def agreement(answers: Mapping[str, Mapping[str, str]]) -> dict[str, Any] | None:
    """
    How far readers agree, whether right or wrong.

    Args:
        answers: reader -> item -> answer.

    Returns:
        ``value``, the mean over pairs of readers of Cohen's kappa (1: always, 0: as by chance), and ``same``, the
        mean share of items that two readers answer alike; None for fewer than two readers of the same items.

    Source: Cohen 1960; the mean over pairs, Light 1971.

    Example:
        >>> agreement({"a": {"1": "left", "2": "right"}, "b": {"1": "left", "2": "right"}})["value"]
        1.0
    """
    kappas, same = [], []
    for one, other in itertools.combinations(answers.values(), 2):
        common = sorted(set(one) & set(other))
        if not common:
            continue
        pair = [[given[item] for item in common] for given in (one, other)]
        same.append(float(np.mean([a == b for a, b in zip(*pair)])))
        varied = len(set(pair[0]) | set(pair[1])) > 1
        kappas.append(float(cohen_kappa_score(*pair)) if varied else 1.0)
    return {"value": float(np.mean(kappas)), "same": float(np.mean(same))} if same else None


def study_results(answers: Sequence[str | Path], key: str | Path) -> dict[str, Any]:
    """
    What readers answered, method by method.

    Args:
        answers: CSV files of the page, of any number of readers.
        key: ``key.csv`` of the study.

    Returns:
        ``methods``: method -> as ``observer.forced_choice``, with "agreement" where there are two readers; ``kinds``:
        accuracy of pairs and of single images.

    Raises:
        FileNotFoundError: for no such file.
        ValueError: for an item that is not in the key, an item answered twice by a reader, or an answer that does not
            fit its item; names file and line.
    """
    truths = read_key(key)
    given: dict[str, dict[str, str]] = {}
    for path in answers:
        asked = read_csv(path, ("reader", "item", "answer"), "the answers to a reader study")
        for line, row in enumerate(asked, start=2):
            _take(row, given, truths, f"{path}, line {line}")
    if not given:
        raise ValueError(f"{', '.join(map(str, answers))}: no answers.")
    right: dict[str, list[tuple[str, bool]]] = {}
    kinds: dict[str, list[bool]] = {}
    for reader, items in given.items():
        for item, answer in items.items():
            method, truth = truths[item]
            right.setdefault(method, []).append((reader, answer == truth))
            kinds.setdefault("pairs" if truth in ("left", "right") else "single", []).append(answer == truth)
    methods = {}
    for method, rows in right.items():
        own = {r: {i: a for i, a in items.items() if truths[i][0] == method} for r, items in given.items()}
        methods[method] = {**results_of(rows), "agreement": agreement(own)}
    return {"methods": methods, "kinds": {name: accuracy_of(list(rows)) for name, rows in kinds.items()}}


def _take(
    row: Mapping[str, str], given: dict[str, dict[str, str]], truths: Mapping[str, tuple[str, str]], where: str
) -> None:
    reader, item, answer = (row[name].strip() for name in ("reader", "item", "answer"))
    if item not in truths:
        raise ValueError(f"{where}: item {item} is not in the key; is it the key of this study?")
    pair = ("left", "right")
    fits = pair if truths[item][1] in pair else ("real", "generated")
    if answer not in fits:
        raise ValueError(f"{where}: {' or '.join(fits)} was expected, got {answer!r}.")
    if item in given.setdefault(reader, {}):
        raise ValueError(f"{where}: {reader} has answered item {item} twice.")
    given[reader][item] = answer


def study_text(result: Mapping[str, Any]) -> str:
    """``study_results`` as Markdown, a table a method."""
    parts = []
    for method, entry in result["methods"].items():
        agreed = entry["agreement"]
        parts.append(f"## {method}\n\n{forced_choice_text(entry)}")
        if agreed:
            parts.append(f"Two readers answer {agreed['same']:.0%} of the items alike (kappa {agreed['value']:.2f}).\n")
    return "\n".join(parts)


def run_results(answers: Sequence[str], key: str, out: str | Path | None = None) -> int:
    """Print the results, and write ``observer.json`` and ``observer.md`` where a folder is given; returns 0."""
    result = study_results(answers, key)
    text = study_text(result)
    print(text, end="")
    if out is not None:
        write_report({"answers": [Path(path).name for path in answers], **result}, text, out, "observer")
    return 0
