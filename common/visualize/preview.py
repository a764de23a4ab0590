"""Pictures of volumes: three orthogonal slices with the condition's contour, in radiological convention."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patheffects import withStroke
from monai.config import KeysCollection
from monai.data import FolderLayout, MetaTensor
from monai.transforms import MapTransform

from ..utils.files import written_whole
from .slices import AXES, PLANES, Grid, loaded, mask_centre, ras_grid

COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#F0E442", "#D55E00", "#0072B2")
_EDGES = (("R", "L", "A", "P"), ("R", "L", "S", "I"), ("A", "P", "S", "I"))
_EDGED = [withStroke(linewidth=1.5, foreground="black")]

logger = logging.getLogger(__name__)


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
        volume: (C, X, Y, Z) or (X, Y, Z), any range; a row a channel, black and white at percentiles 0.5 and 99.5.
        mask: label map (1, X, Y, Z) or (X, Y, Z), or one channel a label, (C', X, Y, Z), above 0 inside; a
            ``MetaTensor`` on another grid than ``volume`` is brought to it. None for no contours.
        affine: voxel to RAS millimetres, (4, 4); by default that of ``volume``, or 1 mm.
        labels: name -> value for the legend; a channel of a many-channel mask counts as value 1, 2, …
        title: written above.

    Returns:
        The figure; oblique volumes are shown along their own axes, the patient's right on the viewer's left.

    Raises:
        ValueError: when ``volume`` is not 3D.
    """
    grid = ras_grid(volume, mask, affine)
    values = [int(v) for v in np.unique(grid.mask) if v]
    names = {value: name for name, value in (labels or {}).items()}
    columns = 6 if values else 3
    widths, heights = zip(*(grid.extent(plane) for plane in range(3)))
    rows = len(grid.volume)
    width = 2.0 * columns
    scale = width / (sum(widths) * columns / 3)
    height = rows * max(heights) * scale + 0.8
    figure = _black_figure(width, height, legend=0.2)
    axes = figure.subplots(rows, columns, squeeze=False, width_ratios=widths * (columns // 3))
    centre = mask_centre(grid.mask)
    for channel, row in zip(grid.volume, axes):
        low, high = _window(channel)
        for column, ax in enumerate(row):
            _draw_slice(ax, grid, channel, column % 3, centre, (low, high))
            if column >= 3:
                _draw_contours(ax, grid, column % 3, centre, values)
    for column, ax in enumerate(axes[0]):
        ax.set_title(PLANES[column % 3], color="white", fontsize=8)
    for index, value in enumerate(values):
        text = names.get(value, f"label {value}")
        figure.text(0.5 + 0.5 * (index + 0.5) / len(values), 0.01, text, color=_colour(value), fontsize=8, ha="center")
    figure.suptitle(title, color="white", fontsize=9)
    return figure


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure as PNG; it appears under ``path`` only when it is complete."""
    with written_whole(path) as temporary:
        figure.savefig(temporary, format="png", facecolor=figure.get_facecolor(), metadata={"Software": None})
    return Path(path)


class SavePreviewd(MapTransform):
    """
    Write a PNG beside each generated volume: three orthogonal slices, plain and with the condition's contours.

    The name is the one that ``SaveImaged`` with the same ``output_dir``, ``output_postfix`` and ``separate_folder``
    would use, with the ending .png. A volume whose metadata knows no file is passed on unwritten.

    Args:
        keys: generated volumes, (C, X, Y, Z), of one case.
        mask_key: the condition, as ``preview_figure`` takes it; None or a missing key for no contours.
        output_dir: folder of the pictures; made where it is missing.
        output_postfix: after the file's stem and an underscore.
        separate_folder: a folder a case, as in ``SaveImaged`` (there the default).
        labels: name -> value, for the legend.
    """

    def __init__(
        self,
        keys: KeysCollection,
        mask_key: str | None = None,
        output_dir: str | Path = "./",
        output_postfix: str = "preview",
        separate_folder: bool = False,
        labels: Mapping[str, int] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.mask_key = mask_key
        self.labels = dict(labels or {})
        self.layout = FolderLayout(str(output_dir), output_postfix, ".png", parent=separate_folder)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns a copy of ``data``, unchanged."""
        result = dict(data)
        mask = result.get(self.mask_key) if self.mask_key else None
        for key in self.key_iterator(result):
            meta = {**_meta(mask), **_meta(result[key])}
            subject = meta.get("filename_or_obj")
            if not isinstance(subject, (str, Path)) or not str(subject):
                logger.debug("No preview of %s: its metadata names no file.", key)
                continue
            path = Path(self.layout.filename(subject=subject, idx=meta.get("patch_index")))
            save_figure(preview_figure(result[key], mask, labels=self.labels, title=path.stem), path)
        return result


def contact_sheet(
    generated: Sequence[Any],
    real: Sequence[Any],
    path: str | Path,
    titles: tuple[str, str] = ("generated", "real"),
) -> Path:
    """
    Generated volumes beside real ones, a row a pair, three middle slices each, all at one scale in millimetres.

    Args:
        generated: files, or arrays as ``preview_figure`` takes them; the first channel is shown.
        real: as many, in the same order where they belong together.
        path: PNG to write.
        titles: of the two halves.

    Returns:
        ``path``.

    Raises:
        ValueError: when the numbers differ or there is none.
    """
    if len(generated) != len(real) or not len(real):
        raise ValueError(f"As many generated as real volumes are needed, got {len(generated)} and {len(real)}.")
    grids = [[ras_grid(*loaded(volume)) for volume in pair] for pair in zip(generated, real)]
    sizes = [np.max([grid.extent(plane) for pair in grids for grid in pair], axis=0) for plane in range(3)]
    widths = [float(width) for width, _ in sizes] * 2
    height = max(float(tall) for _, tall in sizes)
    scale = 9.0 / sum(widths)
    figure = _black_figure(9.0, len(grids) * height * scale + 0.4)
    axes = figure.subplots(len(grids), 6, squeeze=False, width_ratios=widths)
    for row, pair in zip(axes, grids):
        for half, grid in enumerate(pair):
            centre = np.array(grid.mask.shape) // 2
            for plane in range(3):
                ax = row[3 * half + plane]
                _draw_slice(ax, grid, grid.volume[0], plane, centre, _window(grid.volume[0]), letters=False)
                (width, tall), (own_width, own_tall) = sizes[plane], grid.extent(plane)
                ax.set_xlim((own_width - width) / 2, (own_width + width) / 2)
                ax.set_ylim((own_tall + tall) / 2, (own_tall - tall) / 2)
    for half, text in enumerate(titles):
        axes[0][3 * half + 1].set_title(text, color="white", fontsize=10)
    return save_figure(figure, path)


def _black_figure(width: float, height: float, legend: float = 0.0) -> Figure:
    """A figure of so many inches, ``legend`` of them kept free at the bottom."""
    layout = ConstrainedLayoutEngine(rect=(0, legend / height, 1, 1 - legend / height))
    return Figure(figsize=(width, height), dpi=120, facecolor="black", layout=layout)


def _meta(item: Any) -> Mapping[str, Any]:
    return {k: v for k, v in item.meta.items() if v is not None} if isinstance(item, MetaTensor) else {}


def _window(channel: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(channel, (0.5, 99.5))
    return float(low), float(high if high > low else low + 1)


def _colour(value: int) -> str:
    return COLOURS[(value - 1) % len(COLOURS)]


def _draw_slice(
    ax: Any,
    grid: Grid,
    channel: np.ndarray,
    plane: int,
    centre: np.ndarray,
    window: tuple[float, float],
    letters: bool = True,
) -> None:
    width, height = grid.extent(plane)
    pixels = grid.slice(channel, plane, centre[AXES[plane][0]])
    extent = (0, width, height, 0)
    ax.imshow(pixels, cmap="gray", vmin=window[0], vmax=window[1], extent=extent, interpolation="nearest")
    ax.set_axis_off()
    for letter, (x, y) in zip(_EDGES[plane] if letters else "", ((0.04, 0.5), (0.96, 0.5), (0.5, 0.95), (0.5, 0.05))):
        ax.text(
            x,
            y,
            letter,
            transform=ax.transAxes,
            color="white",
            fontsize=6,
            ha="center",
            va="center",
            path_effects=_EDGED,
        )


def _draw_contours(ax: Any, grid: Grid, plane: int, centre: np.ndarray, values: Sequence[int]) -> None:
    labels = grid.slice(grid.mask, plane, centre[AXES[plane][0]])
    width, height = grid.extent(plane)
    # A frame of background closes the contours of labels that touch the border.
    x = (np.arange(-1, labels.shape[1] + 1) + 0.5) * width / labels.shape[1]
    y = (np.arange(-1, labels.shape[0] + 1) + 0.5) * height / labels.shape[0]
    for value in values:
        inside = np.pad(labels == value, 1).astype(float)
        if inside.any():
            ax.contour(x, y, inside, levels=[0.5], colors=[_colour(value)], linewidths=1.0)
    ax.set_xlim(0, width)
    ax.set_ylim(height, 0)
