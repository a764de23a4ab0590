"""Results of an evaluation in one JSON file and one Markdown table, with everything needed to judge them."""

from __future__ import annotations

import logging
import math
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from monai.handlers import IgniteMetricHandler, from_engine
from monai.metrics import CumulativeIterationMetric
from torch import Tensor

from ..metrics.heap import release_memory
from ..metrics.intervals import bootstrap_interval
from .report_writer import ReportWriter

logger = logging.getLogger(__name__)

_PACKAGES = ("torch", "monai", "pytorch-ignite", "numpy", "scipy", "scikit-image")


class MetricHandler(IgniteMetricHandler):
    """
    MONAI's handler, except that a metric which cannot be computed (too few cases) is NaN and does not end the run, and
    that the memory of large volumes is handed back.
    """

    def update(self, output: Sequence[Tensor]) -> None:
        """Called with generated and real images of one iteration, a list of (C, *spatial) or a batch each."""
        super().update(output)
        release_memory(output[0] if isinstance(output[0], Tensor) else output[0][0][None])

    def compute(self) -> Any:
        """The metric's value; NaN, with a line in the log, where it raises ValueError."""
        try:
            return super().compute()
        except ValueError as error:
            logger.warning("%s", error)
            return math.nan


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
    unknown = sorted(set(inputs) - set(metrics))
    if unknown:
        raise ValueError(f"inputs name {unknown}, which are not among the metrics {list(metrics)}.")
    return {
        name: MetricHandler(
            metric_fn=metric,
            output_transform=from_engine(list(inputs.get(name, ("pred", "label")))),
            save_details=False,
        )
        for name, metric in metrics.items()
    }


def per_case_values(metric: CumulativeIterationMetric) -> np.ndarray | None:
    """One number a case of all processes, (n,), or None for a metric of whole sets."""
    if not hasattr(metric, "per_case") and hasattr(metric, "report"):
        return None
    values = metric.per_case() if hasattr(metric, "per_case") else metric.get_buffer()
    if values is None:
        raise ValueError(f"{type(metric).__name__} has seen no case.")
    rows = values.detach().cpu().double().flatten(1) if values.ndim > 1 else values.detach().cpu().double()[:, None]
    return rows.nanmean(1).numpy()


def ratio_of_means(rows: np.ndarray) -> float:
    """Mean of the first column over the mean of the second, (n, 2)."""
    return float(rows[:, 0].mean() / rows[:, 1].mean())


class MetricsReport(ReportWriter):
    """
    Handler that writes ``metrics.json`` and ``metrics.md`` when the evaluation is complete.

    Means over cases get a bootstrap interval of 95 % over cases; ratios of two such means are paired by case. Metrics
    of whole sets report themselves (``report()``), under their ``label``, which names the feature network.

    Args:
        metrics: name -> metric, the objects that the engine's handlers update.
        output_dir: folder of the two files.
        ratios: name -> (numerator, denominator), two metrics that have a value a case.
        context: what else belongs to the result, e.g. steps, step rule, weights.
        seed: of the bootstrap; recorded.
        resamples: of the bootstrap.

    Raises:
        ValueError: when a ratio names a metric that is not there.
    """

    def __init__(
        self,
        metrics: Mapping[str, CumulativeIterationMetric],
        output_dir: str | Path,
        ratios: Mapping[str, Sequence[str]] | None = None,
        context: Mapping[str, Any] | None = None,
        seed: int = 0,
        resamples: int = 1000,
    ) -> None:
        super().__init__(output_dir)
        self.metrics = dict(metrics)
        self.ratios = {name: tuple(pair) for name, pair in (ratios or {}).items()}
        unknown = sorted({part for pair in self.ratios.values() for part in pair} - set(self.metrics))
        if unknown:
            raise ValueError(f"ratios name {unknown}, which are not among the metrics {list(self.metrics)}.")
        self.context = dict(context or {})
        self.seed = seed
        self.resamples = resamples

    def collect(self) -> dict[str, Any]:
        """Everything that ``metrics.json`` holds. Called on all processes, since the metrics are gathered."""
        values = {name: per_case_values(metric) for name, metric in self.metrics.items()}
        results = {
            getattr(metric, "label", name): result_of(metric, values[name], self.seed, self.resamples)
            for name, metric in self.metrics.items()
        }
        for name, (above, below) in self.ratios.items():
            if values[above] is None or values[below] is None:
                raise ValueError(f"The ratio {name} needs two metrics with a value a case.")
            rows = np.stack([values[above], values[below]], axis=1)  # type: ignore[list-item]
            interval = bootstrap_interval(rows, ratio_of_means, self.seed, self.resamples)
            results[name] = {
                "value": ratio_of_means(rows),
                "interval95": interval,
                "n": len(rows),
                "of": [above, below],
            }
        return finite(
            {
                "metrics": results,
                "context": self.context,
                "bootstrap": {"seed": self.seed, "resamples": self.resamples, "over": "cases", "kind": "percentile"},
                "seconds": self.seconds,
                "versions": versions(),
            }
        )

    def table(self, content: Mapping[str, Any]) -> str:
        """A row a metric."""
        return markdown_table(content)


def result_of(
    metric: CumulativeIterationMetric, values: np.ndarray | None, seed: int = 0, resamples: int = 1000
) -> dict[str, Any]:
    """
    What stands in the results for one metric.

    Args:
        metric: after the last image.
        values: its ``per_case_values``.
        seed: of the bootstrap over cases.
        resamples: of the bootstrap.

    Returns:
        The metric's own report; before it, for values a case, "value" (their mean), "interval95" and "n". A metric that
        cannot be computed, for want of cases, has no value and says why ("warning").
    """
    try:
        extra = metric.report() if hasattr(metric, "report") else {}
    except ValueError as error:
        return {"value": None, "interval95": None, "n": "", "warning": str(error)}
    if values is None:
        return extra
    known = values[~np.isnan(values)]
    mean = float(known.mean()) if len(known) else math.nan
    interval = bootstrap_interval(known, seed=seed, resamples=resamples)
    return {"value": mean, "interval95": interval, "n": len(known), **extra}


def versions() -> dict[str, str | None]:
    """Of Python and of the packages that the numbers depend on."""
    return {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}}


def table_rows(content: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """The results as text: metric, value, interval of 95 %, number of images."""
    rows = []
    for name, entry in content["metrics"].items():
        low_high = entry.get("interval95")
        interval = f"{low_high[0]:.4g} to {low_high[1]:.4g}" if low_high else ""
        n = entry.get("n", "")
        n = " / ".join(str(v) for v in n.values()) if isinstance(n, Mapping) else n
        value = "not a number" if entry["value"] is None else f"{entry['value']:.4g}"
        rows.append((name, value, interval, str(n)))
    return rows


def markdown_table(content: Mapping[str, Any]) -> str:
    """The results as a table, a row a metric; the network stands in the name, so no two share a row's meaning."""
    lines = ["| metric | value | 95 % interval | n |", "| --- | --- | --- | --- |"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in table_rows(content)]) + "\n"


def finite(value: Any) -> Any:
    """``value`` as JSON takes it: NaN and infinity become null, other objects their text."""
    if isinstance(value, Mapping):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(v) for v in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value if value is None or isinstance(value, (str, int, bool)) else str(value)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
