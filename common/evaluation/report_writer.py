"""Base of the handlers that write an evaluation's results."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events

from ..utils.files import written_whole

logger = logging.getLogger(__name__)


class ReportWriter:
    """
    Collects the results when an evaluation is complete, and writes them as ``metrics.json`` and ``metrics.md``.

    Args:
        output_dir: folder of the two files.
    """

    def __init__(self, output_dir: str | Path) -> None:
        self.output_dir = Path(output_dir)
        self._started = time.monotonic()

    def attach(self, engine: Engine) -> None:
        """Write when ``engine`` has run; its folder is made at once, so that a bad one stops the run early."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.COMPLETED, self)

    def _start(self, engine: Engine) -> None:
        self._started = time.monotonic()
        self.output_dir.mkdir(parents=True, exist_ok=True)

    def __call__(self, engine: Engine) -> None:
        """Collect on all processes, write on the first."""
        content = self.collect()
        if idist.get_rank() == 0:
            write_report(content, self.table(content), self.output_dir)

    @property
    def seconds(self) -> float:
        """Since the evaluation began."""
        return round(time.monotonic() - self._started, 1)

    def collect(self) -> dict[str, Any]:
        """Everything that ``metrics.json`` holds."""
        raise NotImplementedError(f"{type(self).__name__} must implement collect.")

    def table(self, content: Mapping[str, Any]) -> str:
        """What ``metrics.md`` holds."""
        raise NotImplementedError(f"{type(self).__name__} must implement table.")


def write_report(content: Mapping[str, Any], table: str, output_dir: str | Path) -> None:
    """Write ``metrics.json`` and ``metrics.md``, each whole."""
    with written_whole(Path(output_dir) / "metrics.json") as path:
        path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
    with written_whole(Path(output_dir) / "metrics.md") as path:
        path.write_text(table)
    logger.info("%s:\n%s", Path(output_dir) / "metrics.md", table)
