"""Results of an evaluation as one JSON file and one Markdown table, with everything needed to judge them."""

from __future__ import annotations

import logging
import math
import platform
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.metrics import CumulativeIterationMetric

from ..metrics.groups import drawn_together, group_numbers
from ..metrics.intervals import bootstrap_interval, bootstrap_interval_of_sets
from ..utils.files import write_json, write_text
from ..utils.packages import version_of

logger = logging.getLogger(__name__)

RESAMPLES = 1000
_PACKAGES = ("torch", "monai", "pytorch-ignite", "numpy", "scipy", "scikit-image", "scikit-learn")


def per_case_values(metric: CumulativeIterationMetric) -> np.ndarray | None:
    """One number a case of all processes, (n,), or None for a metric of whole sets."""
    if not hasattr(metric, "per_case") and hasattr(metric, "report"):
        return None
    values = metric.per_case() if hasattr(metric, "per_case") else metric.get_buffer()
    if values is None:
        raise ValueError(f"{type(metric).__name__} has seen no case.")
    rows = values.detach().cpu().double().flatten(1) if values.ndim > 1 else values.detach().cpu().double()[:, None]
    return rows.nanmean(1).numpy()


def result_of(
    metric: CumulativeIterationMetric,
    values: np.ndarray | None,
    seed: int = 0,
    resamples: int = RESAMPLES,
    clusters: np.ndarray | None = None,
) -> dict[str, Any]:
    """
    What stands in the results for one metric.

    Args:
        metric: after the last image.
        values: its ``per_case_values``.
        seed: of the bootstrap over cases.
        resamples: of the bootstrap.
        clusters: name of what each case belongs to (the subject), which the bootstrap draws; None for cases.

    Returns:
        The metric's own report; before it, for values a case, "value" (their mean), "interval95", "n" and "per_case". A
        metric that cannot be computed, for want of cases, has no value and says why ("warning").
    """
    try:
        extra = metric.report() if hasattr(metric, "report") else {}
    except ValueError as error:
        return {"value": None, "interval95": None, "n": "", "warning": str(error)}
    if values is None:
        return extra
    known = ~np.isnan(values)
    own = None if clusters is None else clusters[known]
    entry = entry_of(values[known], seed=seed, resamples=resamples, clusters=own)
    if own is not None and "interval95" in extra:
        # an interval of independent cases is too narrow, and a bootstrap has no width where all cases agree
        ends = sorted([*extra["interval95"], *entry["interval95"]]) if entry["interval95"] else []
        how = f"outer ends of {extra['interval_by']} and of the bootstrap over groups"
        extra |= {"interval95": [ends[0], ends[-1]] if ends else None, "interval_by": how if ends else None}
    return {**entry, **extra, "per_case": [float(value) if ok else None for value, ok in zip(values, known)]}


def entry_of(
    rows: np.ndarray,
    statistic: Callable[[np.ndarray], float] = lambda rows: float(rows.mean()) if len(rows) else math.nan,
    seed: int = 0,
    resamples: int = RESAMPLES,
    clusters: np.ndarray | None = None,
) -> dict[str, Any]:
    """ "value", "interval95" and "n" of a statistic of (n,) or (n, k) values a case; see ``bootstrap_interval``."""
    interval = bootstrap_interval(rows, statistic, seed, resamples, clusters)
    known = interval is not None and all(math.isfinite(end) for end in interval)
    return {"value": statistic(rows), "interval95": interval if known else None, "n": len(rows)}


def paired_difference(
    mine: np.ndarray,
    theirs: np.ndarray,
    seed: int = 0,
    resamples: int = RESAMPLES,
    clusters: np.ndarray | None = None,
) -> dict[str, Any]:
    """The entry of mean (mine - theirs), (n,) values of the same cases each; cases with NaN in either are left out."""
    pair = np.stack([mine, theirs], axis=1)
    known = ~np.isnan(pair).any(axis=1)
    own = None if clusters is None else clusters[known]
    return entry_of(pair[known], difference_of_means, seed, resamples, own)


def numbered(groups: Sequence[Any]) -> list[int]:
    """
    Numbers in place of the names of groups, which may be those of patients, in the order of their first cases.

    Example:
        >>> numbered(["Smith", "Jones", "Smith"])
        [0, 1, 0]
    """
    numbers = {name: number for number, name in enumerate(dict.fromkeys(groups))}
    return [numbers[name] for name in groups]


def ratio_of_means(rows: np.ndarray) -> float:
    """Mean of the first column over the mean of the second, (n, 2)."""
    return float(rows[:, 0].mean() / rows[:, 1].mean())


def ratio_interval(
    sides: tuple[np.ndarray, np.ndarray],
    groups: Sequence[Sequence[str]] | None = None,
    paired: bool = False,
    seed: int = 0,
) -> list[float] | None:
    """
    Bootstrap interval of 95 % of the mean of one set over that of another, over images, pairs or groups.

    Args:
        sides: values a case of both sets, (n,) and (m,).
        groups: what each case of both sets belongs to, or None.
        paired: without groups: whether case i of one set is case i of the other.
        seed: of the draws.
    """
    members = group_numbers([len(values) for values in sides], groups, paired)
    drawn_from = drawn_together(members)
    size = 1 + max(int(own.max()) for own in drawn_from)
    sums = [np.bincount(own, values, size) for own, values in zip(members, sides)]
    sizes = [np.bincount(own, minlength=size) for own in members]

    def ratio(*drawn: np.ndarray) -> float | None:
        times = np.bincount(np.concatenate(drawn).astype(int), minlength=size)
        totals, numbers = ([float(times @ own) for own in columns] for columns in (sums, sizes))
        known = min(numbers) > 0 and totals[1] != 0
        return totals[0] / numbers[0] / (totals[1] / numbers[1]) if known else None

    return bootstrap_interval_of_sets(drawn_from, ratio, seed, RESAMPLES)


def difference_of_means(rows: np.ndarray) -> float:
    """Mean of the first column minus the mean of the second, (n, 2)."""
    return float((rows[:, 0] - rows[:, 1]).mean())


def share_won_back(rows: np.ndarray) -> float:
    """(method - degraded) / (clean - degraded) of the means of (n, 3) in that order; NaN where none was lost."""
    method, degraded, clean = rows.mean(0)
    return float((method - degraded) / (clean - degraded)) if clean > degraded else math.nan


def document(
    results: Mapping[str, Any],
    context: Mapping[str, Any],
    seed: int,
    started: float,
    over: str = "cases",
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """
    The content of ``metrics.json``: results, and what they rest on.

    Args:
        results: "metrics" or "methods", and what stands beside them.
        context: what was measured; absolute paths lose their folders, which name people and machines.
        seed: of the bootstrap.
        started: ``time.monotonic()`` at the beginning.
        over: what the bootstrap draws.
        resamples: of the bootstrap.
    """
    bootstrap = {"seed": seed, "resamples": resamples, "over": over, "kind": "percentile"}
    seconds = round(time.monotonic() - started, 1)
    more = {"context": without_folders(context), "bootstrap": bootstrap, "seconds": seconds, "versions": versions()}
    return finite({**results, **more})


def without_folders(value: Any) -> Any:
    """``value`` with every text that is an absolute path, or an option with one, cut to the last part of the path."""
    if isinstance(value, Mapping):
        return {key: without_folders(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_folders(v) for v in value]
    return re.sub(r"(^|[=,])/(?:[^/=,]+/)+(?=[^/=,])", r"\1", str(value)) if isinstance(value, (str, Path)) else value


def versions() -> dict[str, str | None]:
    """Of Python and of the packages that the numbers depend on."""
    return {"python": platform.python_version(), **{name: version_of(name) for name in _PACKAGES}}


def finite(value: Any) -> Any:
    """``value`` as JSON takes it: NaN and infinity become null, other objects their text."""
    if isinstance(value, Mapping):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(v) for v in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value if value is None or isinstance(value, (str, int, bool)) else str(value)


def table_rows(content: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """The results as text: metric, value, interval of 95 %, number of images."""
    rows = []
    for name, entry in content["metrics"].items():
        n = entry.get("n", "")
        n = " / ".join(str(v) for v in n.values()) if isinstance(n, Mapping) else n
        value = "not a number" if entry["value"] is None else f"{entry['value']:.4g}"
        rows.append((name, value, _interval(entry), str(n)))
    return rows


def markdown_table(content: Mapping[str, Any]) -> str:
    """
    The results as a table: a row a metric, or a row a method and a column a metric, then the differences of methods.

    The feature network stands in a metric's name, so no two share a row's or a column's meaning.
    """
    if "methods" not in content:
        return _text(["metric", "value", "95 % interval", "n"], table_rows(content))
    methods = content["methods"].values()
    text = _method_rows(methods, "metrics")
    if compared := content.get("comparisons"):
        text += (
            f"\nEach value minus that of {compared['with']}, of the same cases, with its interval of 95 %. Where "
            f"nothing differs, about one in twenty of these {compared['number']} intervals leaves out 0 by chance.\n\n"
        )
        text += _method_rows([row for row in methods if "differences" in row], "differences")
    return text


def _method_rows(methods: Iterable[Mapping[str, Any]], key: str) -> str:
    methods = list(methods)
    columns = list(dict.fromkeys(name for row in methods for name in row[key]))
    rows = [[row["title"], *(cell(row[key].get(name)) for name in columns)] for row in methods]
    return _text(["method", *columns], rows)


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """
    The lines of a table in Markdown.

    Example:
        >>> markdown(["", "Dice"], [["real", "0.8"]])
        ['| | Dice |', '| --- | --- |', '| real | 0.8 |']
    """
    return [f"| {' | '.join(head).lstrip()} |", f"|{' --- |' * len(head)}", *(f"| {' | '.join(row)} |" for row in rows)]


def _text(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(markdown(head, rows)) + "\n"


def _interval(entry: Mapping[str, Any]) -> str:
    ends = entry.get("interval95")
    return f"{ends[0]:.4g} to {ends[1]:.4g}" if ends else ""


def cell(entry: Mapping[str, Any] | None) -> str:
    """Value and interval of an entry as text; a dash where there is none."""
    if entry is None or entry["value"] is None:
        return "–"
    interval = _interval(entry)
    return f"{entry['value']:.4g}" + (f" ({interval})" if interval else "")


def write_report(content: Mapping[str, Any], text: str, output_dir: str | Path, name: str = "metrics") -> None:
    """Write ``NAME.json`` and ``NAME.md``, each whole."""
    write_json(Path(output_dir) / f"{name}.json", content, 2, allow_nan=False)
    logger.info("%s:\n%s", write_text(Path(output_dir) / f"{name}.md", text), text)
