"""Sheets of cases: methods or states in columns, a named row a case, with the contours of a mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.utils import convert_to_numpy
from PIL import Image, ImageDraw, ImageFont

from .panels import Panel, image_panel, slice_panels
from .pictures import save_figure, sheet, tiled

_SHOWN = 20  # masks of a sheet


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


def mask_sheet(masks: Sequence[str | Path], path: str | Path) -> Path:
    """
    Label maps in three planes with the outlines of their labels, a row a mask; the first 20.

    Args:
        masks: files, at least one.
        path: PNG to write.
    """
    shown = [str(mask) for mask in masks[:_SHOWN]]
    names = [Path(mask).name.partition(".")[0] for mask in shown]
    caption = f"{len(shown)} of {len(masks)} masks" if len(masks) > _SHOWN else ""
    rows = [[panel._replace(window=(0.0, max(1.0, panel.window[1]))) for panel in slice_panels(m, m)[0]] for m in shown]
    rows = [[row[0]._replace(name=name), *row[1:]] for row, name in zip(rows, names)]
    return save_figure(sheet(rows, caption, width=6.0), path)


def captioned(
    rows: Sequence[Sequence[np.ndarray]],
    names: Sequence[str] = (),
    heads: Sequence[str] = (),
    title: str = "",
    gap: int = 1,
) -> np.ndarray:
    """
    Images pixel by pixel (``tiled``), with names left of their rows, heads above their columns and a title above all.

    Args:
        rows: see ``tiled``.
        names: of the rows; none for no margin.
        heads: of the columns, taken in turns; none for no band.
        title: "" for none.
        gap: see ``tiled``.

    Returns:
        The sheet, uint8, grey or in colour as the images; as wide as its longest line.

    Example:
        >>> captioned([[np.zeros((4, 6), np.uint8)]]).shape
        (4, 6)
    """
    pixels = tiled(rows, gap)
    font = ImageFont.load_default(size=11)
    line = 14
    left = max((round(font.getlength(name)) + 6 for name in names), default=0)
    top = line * (bool(title) + bool(heads))
    wide = max(left + pixels.shape[1], round(font.getlength(title)) + 4 if title else 0)
    canvas = np.zeros((top + pixels.shape[0], wide, *pixels.shape[2:]), np.uint8)
    canvas[top:, left : left + pixels.shape[1]] = pixels
    if not (names or heads or title):
        return canvas
    picture = Image.fromarray(canvas)
    draw, white = ImageDraw.Draw(picture), 255 if canvas.ndim == 2 else (255, 255, 255)
    draw.text((2, 0), title, white, font)
    widths = [max(row[c].shape[1] for row in rows if c < len(row)) for c in range(max(map(len, rows)))]
    for column, width in enumerate(widths if heads else ()):
        head = heads[column % len(heads)]
        place = left + sum(widths[:column]) + gap * column + max(0, (width - font.getlength(head)) / 2)
        draw.text((place, top - line), head, white, font)
    down = top
    for row, name in zip(rows, names):
        height = max(image.shape[0] for image in row)
        draw.text((2, down + max(0, (height - line) // 2)), name, white, font)
        down += height + gap
    return np.asarray(picture)
