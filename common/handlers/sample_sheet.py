"""All images of a run on one sheet."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from PIL import Image, PngImagePlugin

from ..data.images import describe
from ..utils.files import written_whole


class SampleSheet:
    """
    Write the images of an evaluator as one PNG, edge to edge, with the provenance in its header.

    ``SamplePreviews`` sets columns of the same cases side by side; here a case may be one image or, with several
    keys or channels, a row of its own.

    Args:
        output_dir: folder of the PNG.
        keys: of a case; its images, (C, X, Y) each, stand beside one another.
        name: of the PNG without its ending.
        columns: images across; by default one case a row where a case has several images, or else a square.
        window: values shown black and white.
        max_cases: the first so many cases are shown.
        provenance: what made the images.
    """

    def __init__(
        self,
        output_dir: str | Path,
        keys: Sequence[str] = ("pred",),
        name: str = "contact_sheet",
        columns: int | None = None,
        window: tuple[float, float] = (0, 1),
        max_cases: int = 64,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = Path(output_dir) / f"{name}.png"
        self.keys = tuple(keys)
        self.columns = columns
        self.window = window
        self.max_cases = max_cases
        self.provenance = dict(provenance or {})
        self._cases: list[list[torch.Tensor]] = []

    def attach(self, engine: Engine) -> None:
        """Collect from ``engine``, a MONAI evaluator that decollates, and write at its end."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._cases.clear)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def collect(self, engine: Any) -> None:
        """Keep the images of a decollated batch."""
        for case in engine.state.output[: self.max_cases - len(self._cases)]:
            self._cases.append(
                [channel for key in self.keys for channel in torch.as_tensor(case[key]).detach().cpu().float()]
            )

    def __call__(self, engine: Any) -> None:
        """Write the sheet."""
        images = [image for case in self._cases for image in case]
        if not images:
            return
        across = self.columns or (len(self._cases[0]) if len(self._cases[0]) > 1 else math.ceil(math.sqrt(len(images))))
        low, high = self.window
        grey = [np.rint(255 * ((image.numpy().T - low) / (high - low)).clip(0, 1)).astype(np.uint8) for image in images]
        rows = [grey[start : start + across] for start in range(0, len(grey), across)]
        write_sheet(self.path, tiled(rows), self.provenance)


def tiled(rows: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """
    Images of one size on one sheet, a black line between them.

    Args:
        rows: images (height, width) or (height, width, 3), uint8; a row may be shorter than the longest.

    Returns:
        The sheet, uint8, of as many colours.
    """
    height, width, *colours = rows[0][0].shape
    across = max(map(len, rows))
    sheet = np.zeros((len(rows) * (height + 1) - 1, across * (width + 1) - 1, *colours), np.uint8)
    for row, images in enumerate(rows):
        for column, image in enumerate(images):
            top, left = row * (height + 1), column * (width + 1)
            sheet[top : top + height, left : left + width] = image
    return sheet


def write_sheet(path: str | Path, sheet: np.ndarray, provenance: Mapping[str, Any]) -> None:
    """Write a sheet as PNG whose header says what made the images."""
    about = PngImagePlugin.PngInfo()
    about.add_text("Description", describe(provenance))
    with written_whole(path) as temporary:
        Image.fromarray(sheet).save(temporary, format="PNG", pnginfo=about)
