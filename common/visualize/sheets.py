"""Sheets of cases: methods or states in columns, a named row a case, with the contours of a mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.utils import convert_to_numpy

from .pictures import Panel, image_panel, save_figure, sheet, slice_panels


def contact_sheet(
    columns: Mapping[str, Sequence[Any]],
    path: str | Path,
    window: tuple[float, float] = (-1, 1),
    caption: str = "",
    names: Sequence[str] | None = None,
    masks: Sequence[Any] | None = None,
    stacked: bool = False,
) -> Path:
    """
    Images or volumes of the same cases in columns, such as condition, generated and real; a row a case.

    Args:
        columns: title -> images (C, X, Y), see ``image_panel``, or volumes (C, X, Y, Z) or files, of which three
            middle slices of each channel are shown, a row a channel, see ``slice_panels``.
        path: PNG to write.
        window: values of 2D images shown black and white.
        caption: written above all.
        names: of the rows; None for none.
        masks: of each case, whose contours are drawn in every column, see ``image_panel`` and ``slice_panels``; None
            for none.
        stacked: volumes are slices as in print, slices last: one is shown, that with most of the mask or the middle
            one.

    Raises:
        ValueError: when the columns differ in length, are empty, or hold something other than images.
    """
    lengths = {title: len(images) for title, images in columns.items()}
    if not lengths or len(set(lengths.values())) != 1 or not next(iter(lengths.values())):
        raise ValueError(f"As many images in every column, at least one, were expected, got {lengths}.")
    first = next(iter(columns.values()))[0]
    flat = stacked or (not isinstance(first, (str, Path)) and first.ndim < 4)
    rows: list[list[Panel]] = []
    for index, case in enumerate(zip(*columns.values())):
        mask = None if masks is None else masks[index]
        cells = [_cell(image, mask, window, flat, stacked) for image in case]
        together = [[panel for row in rows_of_case for panel in row] for rows_of_case in zip(*cells)]
        if names is not None:
            together[0][0] = together[0][0]._replace(name=names[index])
        rows += together
    across = len(rows[0]) // len(columns)
    for index, title in enumerate(columns):
        place = index * across + across // 2
        rows[0][place] = rows[0][place]._replace(title=title)
    return save_figure(sheet(rows, caption, width=(2.0 if flat else 4.5) * len(columns)), path)


def _cell(image: Any, mask: Any, window: tuple[float, float], flat: bool, stacked: bool) -> list[list[Panel]]:
    """What stands in one column of a case: rows of panels."""
    if not flat:
        drawn = slice_panels(image, mask)
        return [
            [panel._replace(labels=None if mask is None else panel.labels, letters="") for panel in row]
            for row in drawn
        ]
    if not stacked:
        return [[image_panel(image, window, mask=mask)]]
    inside = None if mask is None else (convert_to_numpy(mask) > 0).sum((0, 1, 2))
    chosen = image.shape[-1] // 2 if inside is None or not inside.any() else int(np.argmax(inside))
    return [[image_panel(image[..., chosen], window, mask=None if mask is None else mask[..., chosen])]]
