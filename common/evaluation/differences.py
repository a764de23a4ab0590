"""Two evaluations of the same cases, compared case by case: the paired test that two tables do not give."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .results import document, markdown_table, numbered, paired_difference

_MEASURED = ("intensities", "size", "degradation", "labels", "classes", "samples_measured_at")
"""What of an evaluation's context must agree: what was measured. Weights, sampler and precision may differ."""

_VALUES = ("value", "interval95", "n", "per_case", "per_label", "correct", "identical_pairs", "warning")
"""What of a metric's entry is a result; all the rest says how it was measured and must agree."""

_REAL = ("_real", "[real]")  # ends of the names of metrics that look at real images alone


def differences(
    first: str | Path, second: str | Path, method: str | None = None, other: str | None = None, seed: int = 0
) -> tuple[dict[str, Any], list[str]]:
    """
    Each metric of the first evaluation minus that of the second, case by case.

    Intervals of 95 % are percentiles of a bootstrap over cases, or over the groups (subjects) that the evaluations
    name. Values of whole sets (FID, KID) have none a case: a difference of these needs both methods in one evaluation.

    Args:
        first: folder of an evaluation, or its ``metrics.json``.
        second: that of the other.
        method: row of the first that is compared alone; by default each is with the one of its name.
        other: row of the second that it is compared with; by default the one of its name.
        seed: of the bootstrap.

    Returns:
        The content of a report ("metrics", or "methods" as their tables have them) and notices of what was left out.

    Raises:
        FileNotFoundError: where there is no ``metrics.json``.
        ValueError: for a file that holds no values a case, for rows that are not there, and for evaluations of other
            cases or of other images.

    >>> from tempfile import TemporaryDirectory
    >>> from ..utils.files import write_json
    >>> with TemporaryDirectory() as folder:
    ...     for name, error in (("ten", 0.2), ("few", 0.1)):
    ...         content = {"metrics": {"mse": {"value": error, "per_case": [error, error]}}}
    ...         _ = write_json(f"{folder}/{name}.json", content)
    ...     found, _ = differences(f"{folder}/few.json", f"{folder}/ten.json")
    >>> round(found["metrics"]["mse"]["value"], 3)
    -0.1
    """
    started, paths = time.monotonic(), [_file(first), _file(second)]
    contents = [_content(path) for path in paths]
    clusters = _same_cases(contents, paths)
    pairs, notices = _pairs(contents, paths, method, other)
    rows = {}
    for name, pair in pairs.items():
        found, unlike = _of_row(pair[0]["metrics"], pair[1]["metrics"], clusters, seed)
        notices += [f"{metric} is left out: it was not measured the same way in both." for metric in unlike]
        if found:
            rows[name] = {"title": _title(pair), "metrics": found}
    if not rows:
        said = " ".join(notices)
        raise ValueError(f"{paths[0]} and {paths[1]}: no value differs, or none was measured in both. {said}".strip())
    number = sum(len(row["metrics"]) for row in rows.values())
    result = {"metrics": rows[""]["metrics"]} if "" in rows else {"methods": rows}
    context = {"of": contents[0].get("context", {}), "minus": contents[1].get("context", {})}
    over = "cases" if clusters is None else f"{len(set(clusters.tolist()))} groups of cases"
    return document({**result, "number": number}, context, seed, started, over), list(dict.fromkeys(notices))


def table_of(content: Mapping[str, Any]) -> str:
    """What ``differences`` found, as Markdown."""
    return (
        f"The first minus the second, means over the same cases with intervals of 95 % over "
        f"{content['bootstrap']['over']}. Where nothing differs, about one in twenty of these {content['number']} "
        f"intervals leaves out 0 by chance.\n\n{markdown_table(content)}"
    )


def _file(where: str | Path) -> Path:
    path = Path(where)
    path = path / "metrics.json" if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; an evaluation's folder or its metrics.json was expected.")
    return path


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        rows = _rows(content)
        if any("per_case" in entry for row in rows.values() for entry in row["metrics"].values()):
            return content
    except (ValueError, TypeError, AttributeError, KeyError):
        raise ValueError(f"{path}: damaged, or no metrics.json of an evaluation.") from None
    raise ValueError(f"{path}: it holds no values a case, as an evaluation by a bundle's evaluate.json does.")


def _rows(content: Mapping[str, Any]) -> dict[str, Any]:
    """Methods by name; a report without methods is one without a name."""
    return dict(content["methods"]) if "methods" in content else {"": {"metrics": content["metrics"]}}


def _pairs(
    contents: list[dict[str, Any]], paths: list[Path], method: str | None, other: str | None
) -> tuple[dict[str, list[Any]], list[str]]:
    """Rows of one name in both, or the two that are named; and notices of those that one file alone has."""
    first, second = map(_rows, contents)
    if method or other:
        names = [str(method or other), str(other or method)]
        for name, rows, path in zip(names, (first, second), paths):
            if name not in rows:
                raise ValueError(f"{path} has no row {name!r}, it has {', '.join(filter(None, rows)) or 'no names'}.")
        return {names[0]: [first[names[0]], second[names[1]]]}, []
    alone = [[name for name in rows if name not in others] for rows, others in ((first, second), (second, first))]
    notices = [
        f"{path} alone has {', '.join(names)}: --method and --other name two rows to compare."
        for names, path in zip(alone, paths)
        if names
    ]
    return {name: [first[name], second[name]] for name in first if name in second}, notices


def _title(pair: list[Any]) -> str:
    first, second = (row.get("title", "") for row in pair)
    return first if first == second else f"{first}, minus {second}"


def _same_cases(contents: list[dict[str, Any]], paths: list[Path]) -> np.ndarray | None:
    """The groups of the cases; an error where groups, images or values of the real images are not the same."""
    both = f"{paths[0]} and {paths[1]}"
    for key in _MEASURED:
        values = [content.get("context", {}).get(key) for content in contents]
        if values[0] != values[1]:
            raise ValueError(
                f"{both} cannot be compared: {key} is {values[0]} in the first, {values[1]} in the second."
            )
    columns = [_of_real_images(content) for content in contents]
    for name in columns[0].keys() & columns[1].keys():
        mine, theirs = (column[name] for column in columns)
        if mine.shape != theirs.shape or not np.allclose(mine, theirs, rtol=1e-3, equal_nan=True):
            raise ValueError(f"{both}: {name} of the real images is not the same, so cases or measurement differ.")
    clusters = [numbered(content.get("clusters") or ()) for content in contents]  # earlier evaluations had names
    if clusters[0] != clusters[1]:
        raise ValueError(f"{both} are of other cases: their groups are not the same.")
    return np.array(clusters[0]) if clusters[0] else None


def _of_real_images(content: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The columns that no sampler changes: of the row "original", and those that are called after the real images."""
    rows = _rows(content)
    if "" in rows:
        kept = {n: e for n, e in rows[""]["metrics"].items() if n.endswith(_REAL)}
    else:
        kept = rows.get("original", {"metrics": {}})["metrics"]
    return {name: _column(entry) for name, entry in kept.items() if "per_case" in entry}


def _column(entry: Mapping[str, Any]) -> np.ndarray:
    return np.array(entry["per_case"], dtype=float)  # None, where a case has no value, becomes NaN


def _of_row(
    first: Mapping[str, Any], second: Mapping[str, Any], clusters: np.ndarray | None, seed: int
) -> tuple[dict[str, Any], list[str]]:
    """Differences of one method, none where all its values agree, and metrics that were measured in other ways."""
    found, unlike, same = {}, [], True
    for name in (name for name in first if not name.endswith(_REAL)):
        pair = [row.get(name, {}) for row in (first, second)]
        if any("per_case" not in entry for entry in pair):
            continue
        if _how(pair[0]) != _how(pair[1]) or len(pair[0]["per_case"]) != len(pair[1]["per_case"]):
            unlike.append(name)
            continue
        mine, theirs = map(_column, pair)
        same &= bool(np.allclose(mine, theirs, rtol=1e-4, atol=1e-7, equal_nan=True))
        found[name] = paired_difference(mine, theirs, seed, clusters=clusters)
    return ({} if same else found), unlike


def _how(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key not in _VALUES}
