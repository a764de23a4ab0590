"""Generated images on one sheet, a row a class."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events

from ..studies.save_synthetic import stored_pixels
from .sample_sheet import tiled, write_sheet


class ClassSheet:
    """
    Write the images of an evaluator as one PNG, edge to edge, grey or in colour, with the provenance in its header.

    Args:
        output_dir: folder of the PNG.
        name: of the PNG without its ending; ``{epoch}`` is filled in.
        key: of a case; its image, (1, H, W) or (3, H, W) in [0, 1]. Its "class" says the row.
        columns: the first so many images of each class are shown.
        provenance: what made the images.
        writer: a ``SummaryWriter``, or None.
    """

    def __init__(
        self,
        output_dir: str | Path,
        name: str = "contact_sheet",
        key: str = "pred",
        columns: int = 8,
        provenance: Mapping[str, Any] | None = None,
        writer: Any = None,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.name = name
        self.key = key
        self.columns = columns
        self.provenance = dict(provenance or {})
        self.writer = writer
        self._rows: dict[str, list[np.ndarray]] = {}

    def attach(self, engine: Engine) -> None:
        """Collect from ``engine``, a MONAI evaluator that decollates, and write at its end."""
        engine.add_event_handler(Events.EPOCH_STARTED, lambda: self._rows.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def collect(self, engine: Any) -> None:
        """Keep the images of a decollated batch."""
        for batch, output in zip(engine.state.batch, engine.state.output):
            row = self._rows.setdefault(batch["class"], [])
            if len(row) < self.columns:
                row.append(stored_pixels(output[self.key], str(batch["case"])))

    def __call__(self, engine: Any) -> None:
        """Write the sheet."""
        if not self._rows:
            return
        sheet = tiled(list(self._rows.values()))
        write_sheet(self.output_dir / f"{self.name.format(epoch=engine.state.epoch)}.png", sheet, self.provenance)
        if self.writer is not None:
            layout = "HWC" if sheet.ndim == 3 else "HW"
            self.writer.add_image("generated", sheet, engine.state.epoch, dataformats=layout)
            self.writer.flush()
