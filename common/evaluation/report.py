"""Handlers of an evaluation: metrics that see every case, and the report or the table of methods at its end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ignite.engine import Engine
from monai.handlers import IgniteMetricHandler, from_engine
from monai.metrics import CumulativeIterationMetric

from .report_handler import MetricHandler, ReportHandler
from .results import RESAMPLES, paired_difference, per_case_values, ratio_of_means, share_won_back

Metrics = dict[str, dict[str, CumulativeIterationMetric]]


def metric_handlers(
    metrics: Mapping[str, CumulativeIterationMetric], inputs: Mapping[str, Sequence[str]] | None = None
) -> dict[str, IgniteMetricHandler]:
    """
    A handler a metric, as MONAI's evaluators take them.

    Args:
        metrics: name -> metric.
        inputs: name -> keys of the engine's output that the metric is called with; ("pred", "label") by default.

    Raises:
        ValueError: when ``inputs`` names no metric.
    """
    inputs = dict(inputs or {})
    _check_names("inputs", inputs, metrics)
    return {
        name: MetricHandler(
            metric_fn=metric,
            output_transform=from_engine(list(inputs.get(name, ("pred", "label")))),
            save_details=False,
        )
        for name, metric in metrics.items()
    }


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


class MetricsReport(ReportHandler):
    """
    Handler that writes ``metrics.json`` and ``metrics.md`` when the evaluation is complete.

    Means over cases get a bootstrap interval of 95 % over cases, or over the groups (subjects) that the cases' "group"
    names where several cases share one; ratios of two such means are paired by case. Metrics
    of whole sets report themselves (``report()``), under their ``label``, which names the feature network.

    Args:
        metrics: name -> metric, the objects that the engine's handlers update.
        output_dir: folder of the two files.
        ratios: name -> (numerator, denominator), two metrics that have a value a case.
        context: what else belongs to the result, e.g. steps, step rule, weights.
        seed: of the bootstrap; recorded.
        resamples: of the bootstrap.

    Raises:
        ValueError: when a ratio names a metric that is not there; at the engine's start, when its inferer draws several
            images a case.

    >>> from monai.metrics import MSEMetric
    >>> from torch import Tensor
    >>> metric = MSEMetric()
    >>> _ = metric(Tensor([[[3.0]], [[1.0]]]), Tensor([[[1.0]], [[1.0]]]))
    >>> MetricsReport({"mse": metric}, "results").collect()["metrics"]["mse"]["value"]
    2.0
    """

    def __init__(
        self,
        metrics: Mapping[str, CumulativeIterationMetric],
        output_dir: str | Path,
        ratios: Mapping[str, Sequence[str]] | None = None,
        context: Mapping[str, Any] | None = None,
        seed: int = 0,
        resamples: int = RESAMPLES,
    ) -> None:
        super().__init__(output_dir, context, seed, resamples)
        self.metrics = dict(metrics)
        self.ratios = {name: tuple(pair) for name, pair in (ratios or {}).items()}
        _check_names("ratios", {part for pair in self.ratios.values() for part in pair}, self.metrics)

    def _start(self, engine: Engine) -> None:
        """An error before anything is drawn where a case would have several images."""
        inferer: Any = getattr(engine, "inferer", None)
        sampler: Any = getattr(inferer, "sampler", inferer)
        if getattr(sampler, "output", "samples") == "samples" and getattr(sampler, "num_samples", 1) > 1:
            raise ValueError(
                f"num_samples {sampler.num_samples}: this evaluation measures one image a case: set it to 1."
            )
        super()._start(engine)

    def _results(self) -> dict[str, Any]:
        values = {name: per_case_values(metric) for name, metric in self.metrics.items()}
        results = self._entries(self.metrics, values)
        for name, pair in self.ratios.items():
            if any(values[part] is None for part in pair):
                raise ValueError(f"The ratio {name} needs two metrics with a value a case.")
            results[name] = {**self._paired([values[part] for part in pair], ratio_of_means), "of": list(pair)}
        return {"metrics": results}


class MethodTable(ReportHandler):
    """
    Handler that writes ``metrics.json`` and ``metrics.md``: a row a method, a column a metric, the same cases.

    Means over cases have a bootstrap interval of 95 % over cases, or over their groups as in ``MetricsReport``, others
    their own; ratios, shares and differences are paired by case (of FID, by group of cases).

    Args:
        metrics: see ``method_metrics``; the objects that the engine's handlers update.
        output_dir: folder of the two files.
        titles: method -> how its row is called; its name by default.
        reference: the method of the clean images.
        ratios: column -> new column, each method's mean over the reference's.
        won_back: column -> the degraded images' method; a further column says what share of the difference between
            degraded and clean images a method wins back.
        compared_with: the method whose values are taken from those of every other but the reference; None for none.
        context: what else belongs to the result.
        seed: of the bootstrap; recorded.

    Raises:
        ValueError: when a column of ``ratios`` or ``won_back`` is missing for a method that it needs.

    >>> from monai.metrics import MSEMetric
    >>> from torch import Tensor
    >>> from .results import markdown_table
    >>> metrics = method_metrics(["blurred", "restored"], {"mse": MSEMetric})
    >>> for row, error in zip(metrics.values(), (2.0, 1.0)):
    ...     _ = row["mse"](Tensor([[[error]], [[error]]]), Tensor([[[0.0]], [[0.0]]]))
    >>> print(markdown_table(MethodTable(metrics, "results").collect()).splitlines()[-1])
    | restored | 1 (1 to 1) |
    """

    def __init__(
        self,
        metrics: Metrics,
        output_dir: str | Path,
        titles: Mapping[str, str] | None = None,
        reference: str = "original",
        ratios: Mapping[str, str] | None = None,
        won_back: Mapping[str, str] | None = None,
        compared_with: str | None = None,
        context: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(output_dir, context, seed, RESAMPLES)
        self.metrics, self.reference, self.compared_with = metrics, reference, compared_with
        if compared_with is not None:
            _check_names("compared_with", [compared_with], metrics)
        self.titles = {method: (titles or {}).get(method, method) for method in metrics}
        self.ratios, self.won_back = dict(ratios or {}), dict(won_back or {})
        wanted = {(reference, column) for column in (*self.ratios, *self.won_back)}
        wanted |= {(method, column) for column, method in self.won_back.items()}
        for method, column in sorted(wanted):
            if column not in metrics.get(method, {}):
                raise ValueError(f"There is no {column} of {method!r}; methods are {list(metrics)}.")

    def _results(self) -> dict[str, Any]:
        values = {m: {name: per_case_values(metric) for name, metric in row.items()} for m, row in self.metrics.items()}
        rows = {}
        for method, row in self.metrics.items():
            results = self._entries(row, values[method])
            if method != self.reference:
                results.update(self._derived(method, values))
            rows[method] = {"title": self.titles[method], "metrics": results}
        if self.compared_with is None:
            return {"methods": rows}
        for method, found in rows.items():
            if method not in (self.compared_with, self.reference):
                found["differences"] = self._differences(method, values)
        number = sum(len(row.get("differences", ())) for row in rows.values())
        return {"methods": rows, "comparisons": {"with": self.titles[self.compared_with], "number": number}}

    def _differences(self, method: str, values: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Each metric of a method that the other method has too, minus the other's."""
        results, other = {}, str(self.compared_with)
        for name, metric in self.metrics[method].items():
            theirs = self.metrics[other].get(name)
            label = getattr(metric, "label", name)
            if theirs is None:
                continue
            if values[method][name] is not None:
                pair = values[method][name], values[other][name]
                results[label] = paired_difference(*pair, self.seed, self.resamples, self._clusters)
            elif hasattr(metric, "difference"):
                with suppress(ValueError):  # too few images, which its own entry says
                    results[label] = metric.difference(theirs)
        return results

    def _derived(self, method: str, values: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        results = {
            name: self._paired([values[m][column] for m in (method, self.reference)], ratio_of_means)
            for column, name in self.ratios.items()
        }
        for column, degraded in self.won_back.items():
            if method != degraded:
                columns = [values[name][column] for name in (method, degraded, self.reference)]
                results[f"{column} won back"] = self._paired(columns, share_won_back)
        return results


def _check_names(what: str, used: Iterable[str], metrics: Mapping[str, Any]) -> None:
    unknown = sorted(set(used) - set(metrics))
    if unknown:
        raise ValueError(f"{what} name {unknown}, which are not among the metrics {list(metrics)}.")
