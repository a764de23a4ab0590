"""Metrics by name, tables of methods, two folders compared, audit for copies: `python -m common.evaluation`."""

from ..utils import exported

__getattr__, __dir__, __all__ = exported(
    __name__,
    {
        "audit": ["MemorisationMetric"],
        "catalogue": ["metric_makers", "metrics_by_name"],
        "compare": ["Comparison"],
        "entries": ["METRICS"],
        "folders": ["ImageFolder"],
        "memorisation": ["AuditResult", "AuditSettings"],
        "observer": ["MachineObserverMetric"],
        "report": ["MethodTable", "MetricsReport"],
        "report_handler": ["MetricHandler"],
        "scores": ["ControlledInferer", "RocFigure", "ScoreTable"],
    },
)
