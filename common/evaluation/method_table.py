"""Several methods on the same cases: one table with a row a method and a column a metric."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.handlers import IgniteMetricHandler
from monai.metrics import CumulativeIterationMetric

from ..metrics.intervals import bootstrap_interval
from .report import finite, metric_handlers, per_case_values, ratio_of_means, result_of, versions
from .report_writer import ReportWriter

Metrics = dict[str, dict[str, CumulativeIterationMetric]]


def method_metrics(
    methods: Iterable[str],
    columns: Mapping[str, Callable[[], CumulativeIterationMetric]],
    reference: str | None = None,
    alone: Sequence[str] = (),
) -> Metrics:
    """
    A metric for each method and column.

    Args:
        methods: names, the rows.
        columns: name -> makes a new metric.
        reference: the method that is the clean image itself; it has the columns of ``alone`` only, since compared with
            itself every other says nothing.
        alone: columns that look at one image, such as acutance and accuracy.

    Returns:
        method -> column -> metric.
    """
    return {
        method: {name: make() for name, make in columns.items() if method != reference or name in alone}
        for method in methods
    }


def method_handlers(metrics: Metrics, against: Mapping[str, str] | None = None) -> dict[str, IgniteMetricHandler]:
    """
    Handlers for MONAI's evaluators, named ``method/column``.

    Args:
        metrics: see ``method_metrics``; each is called with the item of its method's name in the engine's output.
        against: column -> key of the other item; "label" for those not named.
    """
    flat = {f"{method}/{name}": metric for method, row in metrics.items() for name, metric in row.items()}
    keys = {name: (name.split("/")[0], (against or {}).get(name.split("/")[1], "label")) for name in flat}
    return metric_handlers(flat, keys)


class MethodTable(ReportWriter):
    """
    Handler that writes ``metrics.json`` and ``metrics.md`` when the evaluation is complete.

    Means over cases have a bootstrap interval of 95 % over cases, others their own; ratios and shares are paired by
    case.

    Args:
        metrics: see ``method_metrics``; the objects that the engine's handlers update.
        output_dir: folder of the two files.
        titles: method -> how its row is called; its name by default.
        reference: the method of the clean images.
        ratios: column -> new column, each method's mean over the reference's.
        won_back: column -> the degraded images' method; a further column says what share of the difference between
            degraded and clean images a method wins back.
        context: what else belongs to the result.
        seed: of the bootstrap; recorded.
    """

    resamples = 1000

    def __init__(
        self,
        metrics: Metrics,
        output_dir: str | Path,
        titles: Mapping[str, str] | None = None,
        reference: str = "original",
        ratios: Mapping[str, str] | None = None,
        won_back: Mapping[str, str] | None = None,
        context: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(output_dir)
        self.metrics = metrics
        self.titles = {method: (titles or {}).get(method, method) for method in metrics}
        self.reference = reference
        self.ratios = dict(ratios or {})
        self.won_back = dict(won_back or {})
        self.context = dict(context or {})
        self.seed = seed
        self._check()

    def _check(self) -> None:
        wanted = {(self.reference, column) for column in (*self.ratios, *self.won_back)}
        wanted |= {(method, column) for column, method in self.won_back.items()}
        for method, column in sorted(wanted):
            if column not in self.metrics.get(method, {}):
                raise ValueError(f"There is no {column} of {method!r}; methods are {list(self.metrics)}.")

    def collect(self) -> dict[str, Any]:
        """Everything that ``metrics.json`` holds. Called on all processes, since the metrics are gathered."""
        values = {
            method: {name: per_case_values(metric) for name, metric in row.items()}
            for method, row in self.metrics.items()
        }
        rows = {}
        for method, row in self.metrics.items():
            results = {
                getattr(metric, "label", name): result_of(metric, values[method][name], self.seed, self.resamples)
                for name, metric in row.items()
            }
            if method != self.reference:
                results.update(self._derived(method, values))
            rows[method] = {"title": self.titles[method], "metrics": results}
        return finite(
            {
                "methods": rows,
                "context": self.context,
                "bootstrap": {"seed": self.seed, "resamples": self.resamples, "over": "cases", "kind": "percentile"},
                "seconds": self.seconds,
                "versions": versions(),
            }
        )

    def _derived(self, method: str, values: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        results = {}
        for column, name in self.ratios.items():
            pair = np.stack([values[method][column], values[self.reference][column]], axis=1)
            results[name] = self._with_interval(pair, ratio_of_means)
        for column, degraded in self.won_back.items():
            if method != degraded:
                methods = (method, degraded, self.reference)
                rows = np.stack([values[name][column] for name in methods], axis=1)
                results[f"{column} won back"] = self._with_interval(rows, share_won_back)
        return results

    def _with_interval(self, rows: np.ndarray, statistic: Callable[[np.ndarray], float]) -> dict[str, Any]:
        interval = bootstrap_interval(rows, statistic, self.seed, self.resamples)
        known = interval is not None and all(math.isfinite(end) for end in interval)
        return {"value": statistic(rows), "interval95": interval if known else None, "n": len(rows)}

    def table(self, content: Mapping[str, Any]) -> str:
        """A row a method."""
        return markdown(content)


def share_won_back(rows: np.ndarray) -> float:
    """(method - degraded) / (clean - degraded) of the means of (n, 3) in that order; NaN where none was lost."""
    method, degraded, clean = rows.mean(0)
    return float((method - degraded) / (clean - degraded)) if clean > degraded else math.nan


def markdown(content: Mapping[str, Any]) -> str:
    """The results as a table: a row a method, a column a metric, each value with its interval of 95 %."""
    rows = content["methods"]
    columns = list(dict.fromkeys(name for row in rows.values() for name in row["metrics"]))
    lines = [f"| method | {' | '.join(columns)} |", f"| --- |{' --- |' * len(columns)}"]
    for row in rows.values():
        lines.append(f"| {row['title']} | {' | '.join(_cell(row['metrics'].get(name)) for name in columns)} |")
    return "\n".join(lines) + "\n"


def _cell(entry: Mapping[str, Any] | None) -> str:
    if entry is None or entry["value"] is None:
        return "–"
    interval = entry.get("interval95")
    return f"{entry['value']:.4g}" + (f" ({interval[0]:.4g} to {interval[1]:.4g})" if interval else "")
