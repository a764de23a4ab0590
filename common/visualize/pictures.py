"""Pictures made of panels: sheets of rows and columns with the contours of labels, tiles, thumbnails."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patheffects import withStroke
from PIL import Image

from ..utils.files import written_whole
from .panels import THREE_PLANES, Panel, slice_panels

COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#F0E442", "#D55E00", "#0072B2")
_EDGES = ((0.04, 0.5), (0.96, 0.5), (0.5, 0.95), (0.5, 0.05))


def sheet(
    rows: Sequence[Sequence[Panel]], title: str = "", legend: Mapping[str, str] | None = None, width: float = 9.0
) -> Figure:
    """
    Panels in rows and columns on black, all at one scale.

    Args:
        rows: as many panels in each.
        title: written above all.
        legend: text -> colour, written below the right half.
        width: of the figure in inches, at 120 pixels an inch.
    """
    sizes = [np.max([panel.size for panel in column], axis=0) for column in zip(*rows)]
    widths = [float(size[0]) for size in sizes]
    tallest = max(float(size[1]) for size in sizes) * width / sum(widths)
    captions = sum(0.15 * max(panel.title.count("\n") + bool(panel.title) for panel in row) for row in rows)
    height = len(rows) * tallest + captions + 0.25 * (title.count("\n") + bool(title)) + 0.2 * bool(legend) + 0.1
    below = 0.2 * bool(legend) / height
    layout = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0, rect=(0, below, 1, 1 - below))
    figure = Figure(figsize=(width, height), dpi=120, facecolor="black", layout=layout)
    axes = figure.subplots(len(rows), len(sizes), squeeze=False, width_ratios=widths)
    for row, panels in zip(axes, rows):
        for ax, panel, size in zip(row, panels, sizes):
            _draw(ax, panel, size)
    for index, (text, colour) in enumerate((legend or {}).items()):
        figure.text(0.5 + 0.5 * (index + 0.5) / len(legend or ()), 0.01, text, color=colour, fontsize=8, ha="center")
    figure.suptitle(title, color="white", fontsize=9)
    return figure


def preview_figure(
    volume: Any,
    mask: Any = None,
    affine: np.ndarray | None = None,
    labels: Mapping[str, int] | None = None,
    title: str = "",
) -> Figure:
    """
    Axial, coronal and sagittal slice through the mask, plain and (right) under the contours of the mask.

    Args:
        volume: as ``slice_panels`` takes it; a row a channel.
        mask: likewise; None for no contours.
        affine: likewise.
        labels: name -> value for the legend; a channel of a many-channel mask counts as value 1, 2, …
        title: written above.
    """
    rows = slice_panels(volume, mask, affine)
    plain = [[panel._replace(labels=None) for panel in row] for row in rows]
    values = sorted({int(v) for panel in rows[0] for v in np.unique(panel.labels) if v})  # type: ignore[arg-type]
    if values:
        plain = [left + right for left, right in zip(plain, rows)]
    plain[0] = [panel._replace(title=THREE_PLANES[index % 3][0]) for index, panel in enumerate(plain[0])]
    names = {value: name for name, value in (labels or {}).items()}
    legend = {names.get(value, f"label {value}"): _colour(value) for value in values}
    return sheet(plain, title, legend, width=2.0 * len(plain[0]))


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure as PNG; it appears under ``path`` only when it is complete."""
    with written_whole(path) as temporary:
        figure.savefig(temporary, format="png", facecolor=figure.get_facecolor(), metadata={"Software": None})
    return Path(path)


def thumbnail(panels: Sequence[Panel], height: int = 112, most: int = 640) -> bytes:
    """
    Panels beside one another as a small PNG; a pixel of an image takes at least one of the picture.

    Args:
        panels: grey.
        height: least height of the picture in pixels.
        most: largest side in pixels.
    """
    steps = [extent / side for panel in panels for extent, side in zip(panel.size, panel.pixels.T.shape)]
    scale = max(height / max(panel.size[1] for panel in panels), 1 / min(steps))
    shown = []
    for panel in panels:
        size = (max(1, round(panel.size[0] * scale)), max(1, round(panel.size[1] * scale)))
        shown.append(np.asarray(Image.fromarray(as_bytes(panel)).resize(size, Image.Resampling.BICUBIC)))
    picture = Image.fromarray(tiled([shown], gap=4))
    picture.thumbnail((most, most))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def as_bytes(panel: Panel) -> np.ndarray:
    """The pixels of a panel, uint8, rounded, 0 where black and 255 where white."""
    low, high = panel.window
    return np.rint(255 * ((panel.pixels - low) / (high - low)).clip(0, 1)).astype(np.uint8)


def tiled(rows: Sequence[Sequence[np.ndarray]], gap: int = 1) -> np.ndarray:
    """
    Images on one sheet, pixel by pixel, with black lines between them.

    Args:
        rows: images (height, width) or (height, width, 3), uint8; a row may be shorter than the longest.
        gap: width of the lines.

    Returns:
        The sheet, uint8, of as many colours; smaller images lie in the middle of their place from top to bottom.
    """
    heights = [max(image.shape[0] for image in row) for row in rows]
    widths = [max(row[c].shape[1] for row in rows if c < len(row)) for c in range(max(map(len, rows)))]
    colours = rows[0][0].shape[2:]
    result = np.zeros(
        (sum(heights) + gap * (len(heights) - 1), sum(widths) + gap * (len(widths) - 1), *colours), np.uint8
    )
    for row, images in enumerate(rows):
        for column, image in enumerate(images):
            top = sum(heights[:row]) + gap * row + (heights[row] - image.shape[0]) // 2
            left = sum(widths[:column]) + gap * column
            result[top : top + image.shape[0], left : left + image.shape[1]] = image
    return result


def _draw(ax: Any, panel: Panel, size: Sequence[float]) -> None:
    """Draw a panel in the middle of a place of ``size``."""
    (width, height), (low, high) = panel.size, panel.window
    pixels = ((panel.pixels - low) / (high - low)).clip(0, 1) if panel.pixels.ndim == 3 else panel.pixels
    ax.imshow(pixels, cmap="gray", vmin=low, vmax=high, extent=(0, width, height, 0), interpolation="nearest")
    if panel.labels is not None:
        _draw_contours(ax, panel.labels, width, height)
    ax.set_xlim((width - size[0]) / 2, (width + size[0]) / 2)
    ax.set_ylim((height + size[1]) / 2, (height - size[1]) / 2)
    ax.set(xticks=[], yticks=[], facecolor="black")
    ax.set_ylabel(panel.name, color="white", fontsize=7)
    for spine in ax.spines.values():
        spine.set(color=panel.frame or "black", linewidth=2 if panel.frame else 0)
    ax.set_title(panel.title, color=panel.frame or "white", fontsize=8)
    style: dict[str, Any] = {"color": "white", "fontsize": 6, "ha": "center", "va": "center"}
    for letter, (x, y) in zip(panel.letters, _EDGES):
        outline = [withStroke(linewidth=1.5, foreground="black")]
        ax.text(x, y, letter, transform=ax.transAxes, path_effects=outline, **style)


def _draw_contours(ax: Any, labels: np.ndarray, width: float, height: float) -> None:
    # A frame of background closes the contours of labels that touch the border.
    x = (np.arange(-1, labels.shape[1] + 1) + 0.5) * width / labels.shape[1]
    y = (np.arange(-1, labels.shape[0] + 1) + 0.5) * height / labels.shape[0]
    for value in np.unique(labels[labels > 0]):
        inside = np.pad(labels == value, 1).astype(float)
        ax.contour(x, y, inside, levels=[0.5], colors=[_colour(int(value))], linewidths=1.0)


def _colour(value: int) -> str:
    return COLOURS[(value - 1) % len(COLOURS)]
