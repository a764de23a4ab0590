"""What handlers of an evaluation share: a metric that cannot be computed is NaN, a report is written at the end."""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
from ignite.engine import Engine, Events
from monai.handlers import IgniteMetricHandler
from torch import Tensor

from ..metrics.base import SetMetric, gathered
from ..metrics.groups import shared_groups
from ..utils.images import release_memory
from .results import document, entry_of, markdown_table, numbered, result_of, write_report

logger = logging.getLogger(__name__)


class MetricHandler(IgniteMetricHandler):
    """
    MONAI's handler, except that a metric which cannot be computed (too few cases) is NaN and does not end the run, and
    that the memory of large volumes is handed back.

    >>> from monai.metrics import MSEMetric
    >>> handler = MetricHandler(metric_fn=MSEMetric(), output_transform=lambda output: output)
    >>> handler.update([Tensor([[[3.0]]]), Tensor([[[1.0]]])])
    >>> float(handler.metric_fn.aggregate())
    4.0
    """

    def started(self, engine: Engine) -> None:
        """Forget what was seen, and look whether cases share groups, which FID must know before the first image."""
        super().started(engine)
        data = getattr(getattr(getattr(engine, "data_loader", None), "dataset", None), "data", ())
        self._grouped = shared_groups(_groups_of(list(data))) is not None

    def iteration_completed(self, engine: Engine) -> None:
        """Give a metric of sets the groups of the cases, and then their images."""
        if self._grouped and isinstance(self.metric_fn, SetMetric):
            self.metric_fn.note_groups(_groups_of(engine.state.batch))
        super().iteration_completed(engine)

    def update(self, output: Sequence[Tensor]) -> None:
        """Called with generated and real images of one iteration, a list of (C, *spatial) or a batch each."""
        super().update(output)
        release_memory(output[0] if isinstance(output[0], Tensor) else output[0][0][None])

    def compute(self) -> Any:
        """The metric's value; NaN where it raises ValueError. What it warns of stands in the report too."""
        with warnings.catch_warnings(action="ignore", category=UserWarning):
            try:
                return super().compute()
            except ValueError as error:
                logger.debug("%s", error)  # the report says it too
                return math.nan


def _groups_of(batch: Any) -> list[str | None]:
    """Group of each case of a batch, collated or not, or of a list of cases; None for one without."""
    cases = batch if isinstance(batch, list) else [batch]
    named = [case.get("group") if isinstance(case, Mapping) else None for case in cases]
    names = [name for group in named for name in (group if isinstance(group, (list, tuple)) else [group])]
    return [None if name is None else str(name) for name in names]


def _warned(content: Mapping[str, Any]) -> list[str]:
    """Names of the entries of a report, at any depth, that hold a warning."""
    inner = [(name, value) for name, value in content.items() if isinstance(value, Mapping)]
    return [one for name, value in inner for one in ([name] if "warning" in value else _warned(value))]


class ReportHandler:
    """Base of the handlers that write ``metrics.json`` and ``metrics.md`` when an evaluation is complete."""

    def __init__(self, output_dir: str | Path, context: Mapping[str, Any] | None, seed: int, resamples: int) -> None:
        self.output_dir = Path(output_dir)
        self.context, self.seed, self.resamples = dict(context or {}), seed, resamples
        self._started = time.monotonic()
        self._groups: list[str | None] = []
        self._clusters: np.ndarray | None = None

    def attach(self, engine: Engine) -> None:
        """Write when ``engine`` has run; its folder is made at once, so that a bad one stops the run early."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._note_groups)
        engine.add_event_handler(Events.COMPLETED, self)

    def _start(self, engine: Engine) -> None:
        self._started, self._groups = time.monotonic(), []
        self.output_dir.mkdir(parents=True, exist_ok=True)

    def _note_groups(self, engine: Engine) -> None:
        self._groups += _groups_of(engine.state.batch)

    def clusters(self) -> np.ndarray | None:
        """Group of each case of all processes, where several cases share one; None where each stands for itself."""
        groups = shared_groups([group for part in gathered(self._groups) for group in part])
        return None if groups is None else np.array(groups)

    def __call__(self, engine: Engine) -> None:
        """Collect on all processes, write on the first."""
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # it stands in the report
            content = self.collect()
        if idist.get_rank() == 0:
            if doubtful := _warned(content):
                names = ", ".join(dict.fromkeys(doubtful))
                logger.warning(
                    f"{len(doubtful)} values rest on too few cases, or have none ({names}): "
                    f"{self.output_dir / 'metrics.md'} says why. --all_cases True measures every case of dataset_dir."
                )
            write_report(content, markdown_table(content), self.output_dir)

    def collect(self) -> dict[str, Any]:
        """Everything that ``metrics.json`` holds. Called on all processes, since the metrics are gathered."""
        clusters = self._clusters = self.clusters()
        found = self._results()
        if clusters is None:
            return document(found, self.context, self.seed, self._started, resamples=self.resamples)
        over = f"{len(set(clusters))} groups of cases"
        found["clusters"] = numbered(clusters.tolist())
        return document(found, self.context, self.seed, self._started, over, self.resamples)

    def _results(self) -> dict[str, Any]:
        raise NotImplementedError(f"{type(self).__name__} must implement _results.")

    def _entries(self, metrics: Mapping[str, Any], values: Mapping[str, np.ndarray | None]) -> dict[str, Any]:
        """The results of metrics under their labels."""
        return {
            getattr(metric, "label", name): result_of(metric, values[name], self.seed, self.resamples, self._clusters)
            for name, metric in metrics.items()
        }

    def _paired(self, columns: Sequence[Any], statistic: Callable[[np.ndarray], float]) -> dict[str, Any]:
        """Value and interval of a statistic of values a case, of several metrics of the same cases."""
        return entry_of(np.stack(columns, axis=1), statistic, self.seed, self.resamples, self._clusters)
